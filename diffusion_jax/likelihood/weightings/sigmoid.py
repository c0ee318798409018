"""A sigmoid of gamma (Kingma & Gao 2023): less weight on imperceptible details."""

from dataclasses import dataclass

import jax

from diffusion_jax.allowed import Finite
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Sigmoid:
    """`sigmoid(gamma + shift)`."""

    shift: float
    monotone: bool = True
    of_gamma: bool = True

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight at `gamma`."""
        return jax.nn.sigmoid(gamma + self.shift)


def make(shift: Finite = 2.0) -> Sigmoid:
    """`sigmoid(gamma + shift)`: half at `gamma = -shift`, about 1 at much higher noise."""
    return Sigmoid(shift)
