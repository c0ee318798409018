"""Rescaled guidance (Lin et al. 2024, section 3.4), on x.

Guidance raises the contrast of the prediction; this scales it back, per example, to the standard
deviation of the conditional prediction. The result depends on the parameterization; here it is
applied to x. A constant prediction is left unchanged.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Share
from diffusion_jax.denoiser import then
from diffusion_jax.sampling.guidance.base import (
    Context,
    Guidance,
    Wrapper,
    norm,
    over_pixels,
    with_x,
)
from diffusion_jax.types import Array, Cond, Denoiser, Pred

_FLAT = 1e-6  # below this share of the prediction's norm, contrast is rounding error


@dataclass(frozen=True)
class Rescale(Wrapper):
    """`inner`, scaled back by a share `phi`."""

    inner: Guidance
    phi: float

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        strong = self.inner(denoiser, context)

        def rescaled(pred: Pred, z: Array, gamma: Array, cond: Cond) -> Pred:
            target, current = _contrast(denoiser(z, gamma, cond).x), _contrast(pred.x)
            factor = jnp.where(current > 0.0, target / jnp.where(current > 0.0, current, 1.0), 1.0)
            return with_x(pred, pred.x * (1.0 + self.phi * (factor - 1.0)), gamma)

        return strong if self.phi == 0.0 else then(strong, rescaled)


def _contrast(x: Array) -> Array:
    """Standard deviation over pixels; 0 where it is only rounding error."""
    centred = x - over_pixels(jnp.mean, x)
    return jnp.where(norm(centred) > _FLAT * norm(x), norm(centred), 0.0) / math.sqrt(x[0].size)


def make(inner: Guidance, phi: Share = 0.7) -> Rescale:
    """`inner`, scaled back.

    Args:
        inner: the guidance, for example `cfg(w=3.0)`.
        phi: 0 leaves `inner` unchanged, 1 restores the standard deviation in full.

    Returns:
        The guidance. It costs one more call of the denoiser than `inner`.
    """
    return Rescale(inner, float(phi))
