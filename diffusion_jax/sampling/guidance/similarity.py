"""Guidance by a text: similarity of a noisy image to it (Nichol et al. 2022, "GLIDE", section 3.2).

`score += scale grad_z s <f(z, gamma), g(text)>`, with two encoders trained on noisy images and
captions by `configs/digits_clip.py`; `f` and `g` have unit length and `s` is learned.
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
from diffusion_jax.types import Array, Cond, Denoiser


@dataclass(frozen=True)
class Similarity(Wrapper):
    """Guidance by a text and a checkpoint of two encoders."""

    checkpoint: str
    text: str
    scale: float
    inner: Guidance | None

    def check(self, context: Context) -> None:
        """Needs the checkpoint."""
        super().check(context)
        need_open("clip", context, self.checkpoint)

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        similarity = need_open("clip", context, self.checkpoint)

        def log_prob(z: Array, gamma: Array, cond: Cond) -> Array:
            return similarity(z, gamma, {**cond, "text": self.text})

        return follow(apply(self.inner, denoiser, context), log_prob, self.scale)


def make(
    checkpoint: str, text: str, scale: Finite = 1.0, inner: Guidance | None = None
) -> Similarity:
    """Guidance towards a text.

    Args:
        checkpoint: the two encoders: a work directory or checkpoint folder.
        text: what the image should show, in the words they were trained on.
        scale: the weight.
        inner: guidance below it, `cfg(w=0.0)` for the unconditional prediction of a model that
            also knows classes.

    Returns:
        The guidance. Applying it where checkpoints cannot be read raises `ConfigError`.
    """
    return Similarity(checkpoint, text, float(scale), inner)
