"""DDPM's linear-beta schedule in continuous time (Ho et al. 2020; Song et al. 2021, VP SDE).

`alpha^2 = exp(-B)`, `B(s) = beta_min s + (beta_max - beta_min) s^2 / 2`, hence
`gamma = log expm1(B)`. Time runs linearly between the two s at which gamma meets the given ends.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Finite, Positive
from diffusion_jax.errors import ConfigError
from diffusion_jax.process.schedules.base import check_ends, pinned
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class LinearBeta:
    """Fixed linear-beta schedule on [gamma_min, gamma_max]."""

    beta_min: float
    beta_max: float
    gamma_min: float
    gamma_max: float

    def init(self, key: Array) -> Params:
        """No parameters."""
        return {}

    def _clock(self, gamma: float) -> float:
        """The s with gamma(s) = gamma: the positive root of a quadratic, without cancellation."""
        total = math.log1p(math.exp(gamma))
        slope = self.beta_max - self.beta_min
        return 2.0 * total / (self.beta_min + math.sqrt(self.beta_min**2 + 2.0 * slope * total))

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`."""
        first, last = self._clock(self.gamma_min), self._clock(self.gamma_max)

        def curve(u: Array) -> Array:
            s = first * (1.0 - u) + last * u
            total = self.beta_min * s + 0.5 * (self.beta_max - self.beta_min) * s * s
            return jnp.log(jnp.expm1(total))

        return pinned(curve, jnp.asarray(t), self.gamma_min, self.gamma_max)


def make(
    beta_min: Positive = 0.1,
    beta_max: Positive = 20.0,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
) -> LinearBeta:
    """The linear-beta schedule, restricted to [gamma_min, gamma_max].

    Args:
        beta_min: rate at the data end, positive.
        beta_max: rate at the noise end, at least `beta_min`.
        gamma_min: gamma at t = 0.
        gamma_max: gamma at t = 1.

    Raises:
        ConfigError: `beta_min` is above `beta_max`.
    """
    if beta_min > beta_max:
        raise ConfigError(f"linear_beta: beta_min={beta_min} must not be above beta_max={beta_max}")
    check_ends(gamma_min, gamma_max)
    return LinearBeta(beta_min, beta_max, gamma_min, gamma_max)
