"""No guidance: the conditional model as it is (weight 1)."""

from diffusion_jax.sampling.guidance.base import Context, Guidance
from diffusion_jax.types import Denoiser


def _unchanged(denoiser: Denoiser, context: Context) -> Denoiser:
    return denoiser


def make() -> Guidance:
    """The identity."""
    return _unchanged
