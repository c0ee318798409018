"""Data drawn from `P(x | z_0)`, where `decode()` takes the most probable.

This is the model's own distribution. With an autoencoder the draws are noisier than the modes, and
metrics such as the Frechet distance differ: report which of the two was used.
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
        """A sample of the data."""
        return decoder.sample(z / alpha(gamma), gamma)


def make() -> Sample:
    """A sample from the decoder's distribution."""
    return Sample()
