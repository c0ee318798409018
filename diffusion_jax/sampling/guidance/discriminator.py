"""Discriminator guidance (Kim et al. 2023, "Refining generative process with ...", section 4).

`score += scale grad_z [log D - log(1 - D)]` for a discriminator between noisy data and noisy
samples of the model; with the optimal discriminator and scale 1, samples follow the data
distribution.
"""

from dataclasses import dataclass

from diffusion_jax.allowed import Finite
from diffusion_jax.sampling.guidance.base import (
    Context,
    Guidance,
    Wrapper,
    apply,
    follow,
    need_open,
)
from diffusion_jax.types import Denoiser


@dataclass(frozen=True)
class Discriminator(Wrapper):
    """Guidance by a discriminator's checkpoint."""

    checkpoint: str
    scale: float
    inner: Guidance | None

    def check(self, context: Context) -> None:
        """Needs the checkpoint."""
        super().check(context)
        need_open("discriminator", context, self.checkpoint)

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        ratio = need_open("discriminator", context, self.checkpoint)
        return follow(apply(self.inner, denoiser, context), ratio, self.scale)


def make(checkpoint: str, scale: Finite = 1.0, inner: Guidance | None = None) -> Discriminator:
    """Guidance towards what a discriminator takes for data.

    Args:
        checkpoint: the discriminator, a work directory or checkpoint folder; for example trained by
            `configs/digits_discriminator.py`.
        scale: the weight.
        inner: guidance applied first; the discriminator's training samples should have used it too.

    Returns:
        The guidance. Applying it where checkpoints cannot be read raises `ConfigError`.
    """
    return Discriminator(checkpoint, float(scale), inner)
