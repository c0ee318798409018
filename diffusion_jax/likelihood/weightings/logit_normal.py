"""Rectified flow with logit-normal times (Esser et al. 2024, Stable Diffusion 3).

The loss is the squared error of the velocity `eps - x` on the straight path from data to noise.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Finite, Positive
from diffusion_jax.types import Array


@dataclass(frozen=True)
class LogitNormal:
    """`N(gamma / 2; mean, std^2) (1 + e^(gamma / 2))^2`."""

    mean: float
    std: float
    monotone: bool = False
    of_gamma: bool = True

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight at `gamma`."""
        # The path's time is sigmoid(gamma / 2).
        centred = (0.5 * gamma - self.mean) / self.std
        density = jnp.exp(-0.5 * jnp.square(centred)) / (self.std * math.sqrt(2 * math.pi))
        return density * jnp.square(1 + jnp.exp(0.5 * gamma))


def make(mean: Finite = 0.0, std: Positive = 1.0) -> LogitNormal:
    """The loss of rectified flow with times `sigmoid(n)`, n normal with this mean and std."""
    return LogitNormal(mean, std)
