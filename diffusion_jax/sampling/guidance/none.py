"""No guidance: the unchanged conditional model (weight 1)."""

from dataclasses import dataclass

from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.types import Denoiser


@dataclass(frozen=True)
class Unguided:
    """The identity."""

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """`denoiser` itself."""
        return denoiser


def make() -> Unguided:
    """The identity."""
    return Unguided()
