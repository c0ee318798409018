"""Guidance in an interval of noise levels only (Kynkaanniemi et al. 2024), `lo < gamma <= hi`.

Outside, the denoiser alone is called. Levels are gammas, never step numbers or times: the interval
means the same for every grid and schedule.
"""

import functools
import math

import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.guidance.base import Context, Guidance
from diffusion_jax.types import Array, Cond, Denoiser, Pred, expand


def _guide(denoiser: Denoiser, context: Context, inner: Guidance, lo: float, hi: float) -> Denoiser:
    strong = inner(denoiser, context)

    def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
        gamma = jnp.asarray(gamma)
        inside = (lo < gamma) & (gamma <= hi)
        if gamma.ndim == 0:
            return jax.lax.cond(inside, strong, denoiser, z, gamma, cond)
        inside = expand(inside, z)
        pairs = zip(strong(z, gamma, cond), denoiser(z, gamma, cond), strict=True)
        return Pred(*(jnp.where(inside, s, p) for s, p in pairs))

    return guided


def make(inner: Guidance, lo: float = -math.inf, hi: float = math.inf) -> Guidance:
    """`inner` where `lo < gamma <= hi`, the conditional model elsewhere.

    Args:
        inner: the guidance, for example `cfg(w=2.0)`.
        lo: lower end in gamma (towards the data), exclusive.
        hi: upper end in gamma (towards the noise), inclusive.

    Returns:
        The guidance. With one gamma per example both predictions are computed.

    Raises:
        ConfigError: the interval is empty.
    """
    if not lo < hi:
        raise ConfigError(f"interval: lo={lo} must be below hi={hi}")
    return functools.partial(_guide, inner=inner, lo=float(lo), hi=float(hi))
