"""The prediction `x_hat(z_0)`, decoded: for plans that end well above the data's own noise."""

from dataclasses import dataclass

from diffusion_jax.sampling.final_steps.base import Reader
from diffusion_jax.sampling.samplers.base import Denoise
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Denoised:
    """One network call."""

    nfe: int = 1

    def __call__(self, denoise: Denoise, z: Array, gamma: Array, decoder: Reader) -> Array:
        """The decoded prediction."""
        return decoder.decode(denoise(z, gamma).x)


def make() -> Denoised:
    """One more prediction at the end of the plan."""
    return Denoised()
