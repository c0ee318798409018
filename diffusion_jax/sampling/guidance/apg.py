"""Adaptive projected guidance (Sadat et al. 2024, algorithm 1), on x.

The guidance `d = x_cond - x_null` gains momentum, `m <- d + beta m`, and is shortened to norm `r`
and split along `x_cond`; the parallel part, which oversaturates, is weighted by `eta`:
`x = x_cond + (w - 1)(m_perp + eta m_par)`. For small steps m tends to `d / (1 - beta)`, so the
effective `w - 1` is `(w - 1) / (1 - beta)`; a negative beta damps changes of d instead of following
them.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Finite, Momentum, PositiveOrInfinite
from diffusion_jax.denoiser import StatefulDenoiser
from diffusion_jax.sampling.guidance.base import (
    Context,
    contrast,
    need_null,
    norm,
    over_pixels,
    with_x,
)
from diffusion_jax.types import Array, Cond, Denoiser, Pred

_TINY = 1e-30


@dataclass(frozen=True)
class APG:
    """Adaptive projected guidance; its state is the momentum, shape of z."""

    w: float
    eta: float
    r: float
    beta: float

    @property
    def stateful(self) -> bool:
        """Only momentum needs state."""
        return self.beta != 0.0

    def check(self, context: Context) -> None:
        """Needs a null condition."""
        need_null("apg", context)

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        null = need_null("apg", context)

        def step(momentum: Array, z: Array, gamma: Array, cond: Cond) -> tuple[Pred, Array]:
            strong, weak = contrast(denoiser, null, z, gamma, cond)
            momentum = strong.x - weak.x + self.beta * momentum
            d = momentum * jnp.minimum(1.0, self.r / jnp.maximum(norm(momentum), _TINY))
            u = strong.x / jnp.maximum(norm(strong.x), _TINY)
            parallel = over_pixels(jnp.sum, d * u) * u
            x = strong.x + (self.w - 1.0) * (d + (self.eta - 1.0) * parallel)
            return with_x(strong, x, gamma), momentum

        guided = StatefulDenoiser(jnp.zeros_like, step)
        return guided if self.stateful else guided.__call__


def make(
    w: Finite = 4.0, eta: Finite = 0.0, r: PositiveOrInfinite = math.inf, beta: Momentum = 0.0
) -> APG:
    """Adaptive projected guidance.

    Args:
        w: the weight (1 is conditional, above 1 is stronger).
        eta: weight of the part along the conditional prediction; 1 with infinite `r` is `cfg(w)`.
        r: largest norm of the guidance, per example over all pixels.
        beta: momentum from one call to the next, in (-1, 1); the paper's is negative. An upward
            move in gamma resets it.
    """
    return APG(float(w), float(eta), float(r), float(beta))
