"""The same weight everywhere: the bound itself, if it is 1."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
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


def make(value: float = 1.0) -> Constant:
    """The weight `value`; at other values than 1 the diffusion term counts more or less."""
    if value <= 0:
        raise ConfigError(f"constant: value={value} must be above 0")
    return Constant(value)
