"""Guidance in an interval of noise levels only (Kynkaanniemi et al. 2024), `lo < gamma <= hi`.

Outside the interval the plain denoiser is called. Its ends are gammas, not step numbers or times,
so they mean the same for every grid and schedule.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Number
from diffusion_jax.denoiser import StatefulDenoiser, as_stateful
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, Guidance, Wrapper
from diffusion_jax.types import Array, Cond, Denoiser, Pred, expand


@dataclass(frozen=True)
class Interval(Wrapper):
    """`inner` where `lo < gamma <= hi`; its state is unchanged elsewhere."""

    inner: Guidance
    lo: float
    hi: float

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        inner = self.inner(denoiser, context)
        strong, weak = as_stateful(inner), as_stateful(denoiser)

        def step(state: Any, z: Array, gamma: Array, cond: Cond) -> tuple[Pred, Any]:
            gamma = jnp.asarray(gamma)
            inside = (self.lo < gamma) & (gamma <= self.hi)
            if gamma.ndim == 0:
                return jax.lax.cond(inside, strong.step, weak.step, state, z, gamma, cond)
            (s, after), (p, _) = (d.step(state, z, gamma, cond) for d in (strong, weak))

            def chosen(a: Array, b: Array) -> Array:
                return jnp.where(expand(inside, a), a, b)

            return jax.tree.map(chosen, s, p), jax.tree.map(chosen, after, state)

        guided = StatefulDenoiser(strong.init, step)
        return guided if isinstance(inner, StatefulDenoiser) else guided.__call__


def make(inner: Guidance, lo: Number = -math.inf, hi: Number = math.inf) -> Interval:
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
    return Interval(inner, float(lo), float(hi))
