"""Classifier guidance, or guidance by any log-probability (Dhariwal & Nichol 2021, algorithm 2).

`score += scale grad_z log p(class | z, gamma)`, with a classifier of noisy images as trained by
`configs/digits_classifier.py`, or with any function `context.log_prob`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from diffusion_jax.allowed import Finite
from diffusion_jax.errors import ConfigError
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
class Classifier(Wrapper):
    """Guidance by a classifier's checkpoint, or by `context.log_prob` if it is empty."""

    scale: float
    checkpoint: str
    inner: Guidance | None

    def check(self, context: Context) -> None:
        """Needs a classifier, and of a checkpoint's a class to follow."""
        super().check(context)
        if self.checkpoint and context.classes == 0:
            raise ConfigError(
                f"classifier: {self.checkpoint} is asked for the class of each image, and this "
                "model has no classes: train it with --config.conditional=True, and begin with its "
                "prediction without a class, classifier(..., inner=cfg(w=0.0))"
            )
        self._log_prob(context)

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        log_prob = self._log_prob(context)
        return follow(apply(self.inner, denoiser, context), log_prob, self.scale)

    def _log_prob(self, context: Context) -> Callable:
        if self.checkpoint:
            return need_open("classifier", context, self.checkpoint)
        if context.log_prob is None:
            raise ConfigError(
                "classifier: there is no log_prob(z, gamma, cond) to follow; name a trained "
                "classifier: classifier(checkpoint='DIR')"
            )
        return context.log_prob


def make(scale: Finite = 1.0, checkpoint: str = "", inner: Guidance | None = None) -> Classifier:
    """Guidance towards the class.

    Args:
        scale: the weight: 1 is Bayes' rule for an unconditional prediction and an exact classifier.
        checkpoint: the classifier, a work directory or checkpoint folder; empty for the caller's
            `context.log_prob`.
        inner: guidance applied first, for example `cfg(w=0.0)` to start from the unconditional
            prediction of a conditional model; None for no other guidance.

    Returns:
        The guidance. Applying it without a classifier raises `ConfigError`.
    """
    return Classifier(float(scale), checkpoint, inner)
