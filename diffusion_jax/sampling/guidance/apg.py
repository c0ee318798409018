"""Adaptive projected guidance (Sadat et al. 2024, algorithm 1), on x.

The guidance `d = x_cond - x_null` gains momentum, `m <- d + beta m`, is shortened to norm `r` and
split along `x_cond`; the parallel part, which oversaturates, is weighted by `eta`:
`x = x_cond + (w - 1)(m_perp + eta m_par)`. As m tends to `d / (1 - beta)` where steps are small,
`w - 1` counts that many times; a negative beta resists changes of d instead of following them.
"""

import functools
import math

import jax.numpy as jnp

from diffusion_jax.denoiser import Remembering
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import (
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


def _guide(
    denoiser: Denoiser, context: Context, w: float, eta: float, r: float, beta: float
) -> Denoiser:
    need_null("apg", context)

    def step(memory: Array, z: Array, gamma: Array, cond: Cond) -> tuple[Pred, Array]:
        given, null = contrast(denoiser, context, z, gamma, cond)
        memory = given.x - null.x + beta * memory
        d = memory * jnp.minimum(1.0, r / jnp.maximum(norm(memory), _TINY))
        u = given.x / jnp.maximum(norm(given.x), _TINY)
        parallel = over_pixels(jnp.sum, d * u) * u
        x = given.x + (w - 1.0) * (d + (eta - 1.0) * parallel)
        return with_x(given, x, gamma), memory

    guided = Remembering(jnp.zeros_like, step)
    return guided if beta else guided.__call__


def make(w: float = 4.0, eta: float = 0.0, r: float = math.inf, beta: float = 0.0) -> Guidance:
    """Adaptive projected guidance.

    Args:
        w: the weight (1 conditional, above 1 stronger).
        eta: weight of the part along the conditional prediction; 1 with infinite `r` is `cfg(w)`.
        r: largest norm of the guidance, per example over all pixels.
        beta: momentum, from one call of a run to the next; the paper's is negative. Moves up in
            gamma start it anew.

    Raises:
        ConfigError: `r` is not positive, or `beta` is outside (-1, 1).
    """
    if r <= 0.0:
        raise ConfigError(f"apg: r={r} must be positive")
    if not -1.0 < beta < 1.0:
        raise ConfigError(
            f"apg: beta={beta} is outside (-1, 1), where momentum would grow for ever"
        )
    return functools.partial(_guide, w=float(w), eta=float(eta), r=float(r), beta=float(beta))
