"""Shared by edits that interpolate between pairs of images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.edits.base import Canvas, Inputs, Layout, refuse_mask, whole
from diffusion_jax.sampling.guidance.base import over_pixels
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def slerp(a: Array, b: Array, weight: Array) -> Array:
    """Spherical interpolation of `[R, ...]`: `a` at `weight` `[R]` 0, `b` at 1 (Shoemake 1985).

    Linear interpolation where the two point in the same direction.
    """
    w = weight.reshape(-1, *[1] * (a.ndim - 1))

    def total(a: Array) -> Array:
        return over_pixels(jnp.sum, a)

    cosine = total(a * b) / jnp.sqrt(total(a * a) * total(b * b))
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    sine = jnp.sin(angle)
    curved = sine > 1e-3
    safe = jnp.where(curved, sine, 1.0)
    from_a = jnp.where(curved, jnp.sin((1.0 - w) * angle) / safe, 1.0 - w)
    from_b = jnp.where(curved, jnp.sin(w * angle) / safe, w)
    return from_a * a + from_b * b


def lay_out(name: str, inputs: Inputs, frames: int) -> Layout:
    """One line of `frames` frames, ends included, per pair; images 0 and 1 are the first pair.

    Returns:
        The layout. For each frame, `extra` has the other end (its `image` and its conditions), the
        `weight` of that end, and the number of the frame's `line`.

    Raises:
        ConfigError: there is a mask, or the images do not come in pairs.
    """
    refuse_mask(name, inputs)
    n = len(inputs.images)
    if n % 2:
        raise ConfigError(f"{name} needs pairs of images, but there are {n}")
    lines = n // 2 * inputs.each

    def rows(a: np.ndarray, end: int) -> np.ndarray:
        """The first (0) or second (1) of each pair, for each of its frames."""
        return np.repeat(a[end::2], inputs.each * frames, axis=0)

    first = whole(inputs)
    extra = {
        "image": rows(inputs.images, 1),
        "weight": np.tile(np.linspace(0.0, 1.0, frames, dtype=np.float32), lines),
        "line": np.repeat(np.arange(lines, dtype=np.int32), frames),
    }
    cond = {k: rows(v, 0) for k, v in inputs.cond.items()}
    extra |= {k: rows(v, 1) for k, v in inputs.cond.items()}
    assert first.mask is not None
    canvas = Canvas(rows(inputs.images, 0), rows(first.mask, 0), cond, extra)
    return Layout(canvas, frames)


def other_cond(canvas: Canvas[Array]) -> Cond:
    """The condition of the other end."""
    return {k: canvas.extra[k] for k in canvas.cond}


def mixed(canvas: Canvas[Array]) -> Callable[[Denoiser], Denoiser]:
    """A transform that mixes the predictions under the two ends' conditions by the frame's weight.

    It calls the denoiser twice; for an unconditional model it is the identity.
    """

    def wrap(denoiser: Denoiser) -> Denoiser:
        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            w = canvas.extra["weight"].astype(z.dtype).reshape(-1, *[1] * (z.ndim - 1))
            a = denoiser(z, gamma, cond)
            b = denoiser(z, gamma, {**cond, **other_cond(canvas)})
            return jax.tree.map(lambda p, q: p + w * (q - p), a, b)

        return guided

    return wrap if canvas.cond else lambda denoiser: denoiser
