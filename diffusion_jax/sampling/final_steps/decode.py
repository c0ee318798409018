"""The most probable data given `z_0 / alpha_0` (VDM): levels for a discrete decoder."""

from dataclasses import dataclass

from diffusion_jax.sampling.final_steps.base import Reader
from diffusion_jax.sampling.samplers.base import Denoise
from diffusion_jax.types import Array, alpha


@dataclass(frozen=True)
class Decode:
    """No network call."""

    nfe: int = 0

    def __call__(self, denoise: Denoise, z: Array, gamma: Array, decoder: Reader) -> Array:
        """The decoded data."""
        return decoder.decode(z / alpha(gamma))


def make() -> Decode:
    """The model's own last step."""
    return Decode()
