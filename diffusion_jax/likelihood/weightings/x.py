"""The plain squared error of x, uniform in gamma: the weight `e^gamma` favours high noise."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.types import Array


@dataclass(frozen=True)
class X:
    """`e^gamma`."""

    monotone: bool = True
    of_gamma: bool = True

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight at `gamma`."""
        return jnp.exp(gamma)


def make() -> X:
    """Half the squared error of x, uniform in gamma."""
    return X()
