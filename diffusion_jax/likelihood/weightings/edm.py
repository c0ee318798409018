"""EDM's loss (Karras et al. 2022, table 1): log-normal noise levels and rescaled errors in x."""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Finite, Positive
from diffusion_jax.types import Array


@dataclass(frozen=True)
class EDM:
    """`2 N(gamma; 2 mean, (2 std)^2) (e^gamma / data^2 + 1)`."""

    mean: float
    std: float
    data: float
    monotone: bool = False
    of_gamma: bool = True

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight at `gamma`."""
        # ln of EDM's noise level is gamma / 2.
        centred = (gamma - 2 * self.mean) / (2 * self.std)
        density = jnp.exp(-0.5 * jnp.square(centred)) / (2 * self.std * math.sqrt(2 * math.pi))
        return 2 * density * (jnp.exp(gamma) / self.data**2 + 1)


def make(mean: Finite = -1.2, std: Positive = 1.2, data: Positive = 0.5) -> EDM:
    """EDM's loss.

    Args:
        mean: mean of the log noise level, P_mean.
        std: standard deviation of the log noise level, P_std.
        data: standard deviation of the data, sigma_data.
    """
    return EDM(mean, std, data)
