"""Discriminator guidance (Kim et al. 2023, "Refining generative process with ...", section 4).

`score += scale grad_z [log D - log(1 - D)]` for a discriminator of noisy data against noisy samples
of the model; with the best discriminator and scale 1 the samples follow the law of the data.
"""

import functools

from diffusion_jax.sampling.guidance.base import Context, Guidance, follow, need_open
from diffusion_jax.types import Denoiser


def _guide(
    denoiser: Denoiser, context: Context, checkpoint: str, scale: float, inner: Guidance | None
) -> Denoiser:
    ratio = need_open("discriminator", context, checkpoint)
    return follow(denoiser if inner is None else inner(denoiser, context), ratio, scale)


def make(checkpoint: str, scale: float = 1.0, inner: Guidance | None = None) -> Guidance:
    """Guidance towards what a discriminator takes for data.

    Args:
        checkpoint: the discriminator, trained by `configs/digits_discriminator.py` or alike: a work
            directory or checkpoint folder.
        scale: the weight.
        inner: guidance below it; the samples the discriminator was trained on should have had it.

    Returns:
        The guidance. Applying it where checkpoints cannot be read raises `ConfigError`.
    """
    return functools.partial(_guide, checkpoint=checkpoint, scale=float(scale), inner=inner)
