"""Guidance in an interval of noise levels only (Kynkaanniemi et al. 2024), `lo < gamma <= hi`.

Outside, the denoiser alone is called. Levels are gammas, never step numbers or times: the interval
means the same for every grid and schedule.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import Remembering, lifted
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, Guidance
from diffusion_jax.types import Array, Cond, Denoiser, Pred, expand


def _guide(denoiser: Denoiser, context: Context, inner: Guidance, lo: float, hi: float) -> Denoiser:
    within = inner(denoiser, context)
    strong, weak = lifted(within), lifted(denoiser)

    def step(memory: Any, z: Array, gamma: Array, cond: Cond) -> tuple[Pred, Any]:
        gamma = jnp.asarray(gamma)
        inside = (lo < gamma) & (gamma <= hi)
        if gamma.ndim == 0:
            return jax.lax.cond(inside, strong.step, weak.step, memory, z, gamma, cond)
        (s, after), (p, _) = (d.step(memory, z, gamma, cond) for d in (strong, weak))

        def chosen(a: Array, b: Array) -> Array:
            return jnp.where(expand(inside, a), a, b)

        return jax.tree.map(chosen, s, p), jax.tree.map(chosen, after, memory)

    guided = Remembering(strong.init, step)
    return guided if isinstance(within, Remembering) else guided.__call__


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
