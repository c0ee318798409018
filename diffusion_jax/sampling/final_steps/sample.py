"""Data drawn from `P(x | z_0)`, where `decode()` takes the most probable.

The law of the model itself; with an autoencoder its pictures are noisier than its modes, and
figures such as Frechet distances differ: say which was used.
"""

from dataclasses import dataclass
from typing import Any

from diffusion_jax.sampling.samplers.base import Denoise
from diffusion_jax.types import Array, alpha


@dataclass(frozen=True)
class Sample:
    """No network call."""

    nfe: int = 0

    def __call__(self, denoise: Denoise, z: Array, gamma: Array, decoder: Any) -> Array:
        """Drawn data."""
        return decoder.sample(z / alpha(gamma), gamma)


def make() -> Sample:
    """A draw from the decoder's law."""
    return Sample()
