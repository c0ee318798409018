"""Convolutions whose kernel gradients are fast on CPU; everywhere else, `jax.lax`'s own.

XLA:CPU computes the gradient of a kernel as a convolution with a kernel the size of the image, at a
third of the rate of its matrix products, and some hundred times slower still inside a loop. The
same sum is one matrix product per kernel position. Here only the tangent that belongs to the kernel
is written that way (reverse mode transposes it), so derivatives of every kind and order work.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from diffusion_jax.types import Array

_NHWC = ("NHWC", "HWIO", "NHWC")


def _shifted_products(x: Array, kernel: Array) -> Array:
    """The `SAME` convolution with stride 1 as a sum of products of pixels, shifted."""
    (b, h, w, c), (kh, kw, _, out) = x.shape, kernel.shape
    pixels = x.transpose(3, 0, 1, 2).reshape(c, -1)  # so that transposed products are row by row
    y = jnp.zeros((b, h + kh - 1, w + kw - 1, out), x.dtype)
    for i in range(kh):
        for j in range(kw):
            part = jnp.einsum("cm,co->mo", pixels, kernel[i, j]).reshape(b, h, w, out)
            top, left = kh - 1 - i, kw - 1 - j
            y = y.at[:, top : top + h, left : left + w].add(part)
    return y[:, (kh - 1) // 2 :, (kw - 1) // 2 :][:, :h, :w]


def _lax(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_NHWC)


@jax.custom_jvp
def _same(x: Array, kernel: Array) -> Array:
    return _lax(x, kernel)


def _tangent(primals: tuple, tangents: tuple) -> tuple:
    (x, kernel), (dx, dkernel) = primals, tangents
    y, parts = _same(x, kernel), []
    if not isinstance(dx, SymbolicZero):
        parts.append(_same(dx, kernel))
    if not isinstance(dkernel, SymbolicZero):
        parts.append(lax.platform_dependent(x, dkernel, cpu=_shifted_products, default=_lax))
    return y, sum(parts) if parts else SymbolicZero(jax.typeof(y))


_same.defjvp(_tangent, symbolic_zeros=True)


def conv(
    x: Array,
    kernel: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *args: Any,
    **options: Any,
) -> Array:
    """`lax.conv_general_dilated` for `flax.linen.Conv`.

    Args:
        x: `[B,H,W,C]`.
        kernel: `[KH,KW,C,D]`, odd sizes.
        window_strides: strides; only 1 has the faster gradient.
        padding: padding; only `"SAME"` has the faster gradient.
        *args: further arguments of `lax.conv_general_dilated`.
        **options: further arguments of `lax.conv_general_dilated`.

    Returns:
        `[B,H,W,D]` for `"SAME"` and strides of 1.
    """
    plain = not args and x.ndim == 4 and options.get("feature_group_count", 1) == 1
    plain &= all(options.get(k) is None for k in ("precision", "preferred_element_type"))
    dilated = any(d != 1 for k in ("lhs_dilation", "rhs_dilation") for d in options.get(k) or (1,))
    odd = kernel.shape[0] % 2 and kernel.shape[1] % 2
    if plain and odd and not dilated and padding == "SAME" and set(window_strides) == {1}:
        return _same(x, kernel)
    return lax.conv_general_dilated(x, kernel, window_strides, padding, *args, **options)


conv3x3 = functools.partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=conv)
