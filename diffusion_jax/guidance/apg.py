"""Adaptive projected guidance (Sadat et al. 2024), on x and without momentum.

The guidance `d = x_cond - x_null` is shortened to norm `r` and split along `x_cond`; the parallel
part, which oversaturates, is weighted by `eta`: `x = x_cond + (w - 1)(d_perp + eta d_par)`.
The paper also carries a running mean of `d` from step to step; guidance here is a function of one
latent and carries nothing, so this is its form with momentum `beta = 0`.
"""

import functools
import math

import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.guidance.base import (
    Context,
    Guidance,
    contrast,
    need_null,
    norm,
    over_pixels,
    with_x,
)
from diffusion_jax.types import Array, Cond, Denoiser, Pred

_TINY = 1e-30


def _guide(denoiser: Denoiser, context: Context, w: float, eta: float, r: float) -> Denoiser:
    need_null("apg", context)

    def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
        given, null = contrast(denoiser, context, z, gamma, cond)
        d = given.x - null.x
        d = d * jnp.minimum(1.0, r / jnp.maximum(norm(d), _TINY))
        u = given.x / jnp.maximum(norm(given.x), _TINY)
        parallel = over_pixels(jnp.sum, d * u) * u
        x = given.x + (w - 1.0) * (d + (eta - 1.0) * parallel)
        return with_x(given, x, gamma)

    return guided


def make(w: float = 4.0, eta: float = 0.0, r: float = math.inf) -> Guidance:
    """Adaptive projected guidance.

    Args:
        w: the weight (1 conditional, above 1 stronger).
        eta: weight of the part along the conditional prediction; 1 with infinite `r` is `cfg(w)`.
        r: largest norm of the guidance, per example over all pixels.

    Returns:
        The guidance.

    Raises:
        ConfigError: `r` is not positive.
    """
    if r <= 0.0:
        raise ConfigError(f"apg: r={r} must be positive")
    return functools.partial(_guide, w=float(w), eta=float(eta), r=float(r))
