"""A constant weight; 1 gives the bound."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Positive
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Constant:
    """The weight `value`."""

    value: float
    monotone: bool = True
    of_gamma: bool = True

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight at `gamma`."""
        return jnp.full_like(gamma, self.value)


def make(value: Positive = 1.0) -> Constant:
    """The weight `value` of the diffusion term, relative to prior and reconstruction."""
    return Constant(value)
