"""Convolutions with fast gradients on CPU; on other backends those of `jax.lax`.

XLA:CPU rewrites the convolutions of a gradient into its fast form only outside of loops; inside a
loop, as in every sampler guided by a gradient, they run thirty times slower. It also computes the
gradient of a kernel as a convolution with a kernel the size of the image, at a third of the speed
of the equivalent matrix products. Here both gradients are written out. They are rules of a JAX
primitive, because custom_vjp supports neither transposition nor higher-order derivatives.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from diffusion_jax.types import Array

_NHWC = ("NHWC", "HWIO", "NHWC")
_SMALL = 128  # up to this many pixels a convolution with the image beats matrix products


def _lax(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=_NHWC)


def _spread(g: Array, like: Any, size: Sequence[int], strides: tuple[int, int]) -> Array:
    """The strided result scattered to its positions in the unstrided one, zeros in between."""
    paddings = [(0, 0, 0)]
    for n, out, k, s in zip(like.shape[1:3], g.shape[1:3], size, strides, strict=True):
        low = (k - 1) // 2 - max((out - 1) * s + k - n, 0) // 2
        paddings.append((low, n - 1 - low - (out - 1) * s, s - 1))
    return lax.pad(g, jnp.zeros((), g.dtype), [*paddings, (0, 0, 0)])


def _image_gradient(g: Array, kernel: Array) -> Array:
    """Gradient with respect to the image: the same convolution with the kernel flipped."""
    return _same(g, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


def _kernel_gradient(x: Array, g: Array, size: tuple[int, int]) -> Array:
    """Gradient with respect to the kernel, `[KH,KW,C,D]`."""
    (_, h, w, c), out, (kh, kw) = x.shape, g.shape[-1], size
    if h * w <= _SMALL:
        padding = [(k // 2, k // 2) for k in size]
        x, g = x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)
        y = lax.conv_general_dilated(x, g, (1, 1), padding, dimension_numbers=_NHWC)
        return y.transpose(1, 2, 0, 3)
    pixels = x.transpose(3, 0, 1, 2).reshape(c, -1)  # row-major for the matrix products
    g = jnp.pad(g, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    rows = [g[:, kh - 1 - i : kh - 1 - i + h] for i in range(kh)]
    shifted = [r[:, :, kw - 1 - j : kw - 1 - j + w] for r in rows for j in range(kw)]
    taps = [pixels @ s.reshape(-1, out) for s in shifted]
    return jnp.stack(taps).reshape(kh, kw, c, out)


def _transposed_image(g: Array, x: Any, kernel: Array, *, strides: tuple[int, int]) -> Array:
    def cpu(g: Array, kernel: Array) -> Array:
        return _image_gradient(_spread(g, x.aval, kernel.shape[:2], strides), kernel)

    def default(g: Array, kernel: Array) -> Array:
        return jax.linear_transpose(lambda x: _lax(x, kernel, strides), x.aval)(g)[0]

    return lax.platform_dependent(g, kernel, cpu=cpu, default=default)


def _transposed_kernel(g: Array, x: Array, kernel: Any, *, strides: tuple[int, int]) -> Array:
    size = kernel.aval.shape[:2]

    def cpu(x: Array, g: Array) -> Array:
        return _kernel_gradient(x, _spread(g, x, size, strides), size)

    def default(x: Array, g: Array) -> Array:
        return jax.linear_transpose(lambda k: _lax(x, k, strides), kernel.aval)(g)[0]

    return lax.platform_dependent(x, g, cpu=cpu, default=default)


def _shape(x: Any, kernel: Any, *, strides: tuple[int, int]) -> ShapedArray:
    height, width = (-(-n // s) for n, s in zip(x.shape[1:3], strides, strict=True))
    return ShapedArray((x.shape[0], height, width, kernel.shape[3]), x.dtype)


def _batched(args: Sequence, axes: Sequence, *, strides: tuple[int, int]) -> tuple[Array, int]:
    (x, kernel), (axis, kernel_axis) = args, axes
    if kernel_axis is not None:
        return jax.vmap(functools.partial(_lax, strides=strides), axes)(x, kernel), 0
    x = jnp.moveaxis(x, axis, 0)
    y = _same(x.reshape(-1, *x.shape[2:]), kernel, strides)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


_same_p = Primitive("same_convolution")
_same_p.def_impl(_lax)
_same_p.def_abstract_eval(_shape)
mlir.register_lowering(_same_p, mlir.lower_fun(_lax, multiple_results=False))
ad.defbilinear(_same_p, _transposed_image, _transposed_kernel)
batching.primitive_batchers[_same_p] = _batched


def _same(x: Array, kernel: Array, strides: tuple[int, int] = (1, 1)) -> Array:
    return _same_p.bind(x, kernel, strides=strides)


def conv(
    x: Array,
    kernel: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *args: Any,
    **options: Any,
) -> Array:
    """`lax.conv_general_dilated`, for `flax.linen.Conv`.

    On CPU, 2-D convolutions with `"SAME"` padding, odd kernels, and neither dilation nor groups
    have the faster gradients.
    """
    plain = jax.default_backend() == "cpu" and not args and x.ndim == 4
    plain &= options.get("feature_group_count", 1) == 1
    plain &= all(options.get(k) is None for k in ("precision", "preferred_element_type"))
    dilated = any(d != 1 for k in ("lhs_dilation", "rhs_dilation") for d in options.get(k) or (1,))
    odd = kernel.shape[0] % 2 and kernel.shape[1] % 2
    if plain and odd and not dilated and padding == "SAME":
        down, right = window_strides
        return _same(x, kernel, (down, right))
    return lax.conv_general_dilated(x, kernel, window_strides, padding, *args, **options)


conv3x3 = functools.partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=conv)
