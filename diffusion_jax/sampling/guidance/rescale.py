"""Rescaled guidance (Lin et al. 2024, section 3.4), on x.

Guidance raises the contrast of the prediction: scale it back to the standard deviation, per
example, of the conditional one. Depends on the parameterization; it is done on x here.
"""

import functools

import jax.numpy as jnp

from diffusion_jax.denoiser import after
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, Guidance, over_pixels, with_x
from diffusion_jax.types import Array, Cond, Denoiser, Pred

_TINY = 1e-30


def _guide(denoiser: Denoiser, context: Context, inner: Guidance, phi: float) -> Denoiser:
    strong = inner(denoiser, context)

    def rescaled(pred: Pred, z: Array, gamma: Array, cond: Cond) -> Pred:
        wanted = over_pixels(jnp.std, denoiser(z, gamma, cond).x)
        factor = wanted / jnp.maximum(over_pixels(jnp.std, pred.x), _TINY)
        return with_x(pred, pred.x * (1.0 + phi * (factor - 1.0)), gamma)

    return strong if phi == 0.0 else after(strong, rescaled)


def make(inner: Guidance, phi: float = 0.7) -> Guidance:
    """`inner`, scaled back.

    Args:
        inner: the guidance, for example `cfg(w=3.0)`.
        phi: 0 leaves `inner` alone, 1 restores the standard deviation in full.

    Returns:
        The guidance. It costs one more call of the denoiser than `inner`.

    Raises:
        ConfigError: `phi` is outside [0, 1].
    """
    if not 0.0 <= phi <= 1.0:
        raise ConfigError(f"rescale: phi={phi} is outside [0, 1]")
    return functools.partial(_guide, inner=inner, phi=float(phi))
