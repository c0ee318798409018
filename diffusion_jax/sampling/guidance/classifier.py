"""Classifier guidance, and any other guidance by a score (Dhariwal & Nichol 2021, algorithm 2).

`score += scale grad_z log p(class | z, gamma)`, with a classifier of noisy images that
`configs/digits_classifier.py` trains, or with any function `context.log_prob`.
"""

import functools

from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, Guidance, follow, need_open
from diffusion_jax.types import Denoiser


def _guide(
    denoiser: Denoiser, context: Context, scale: float, checkpoint: str, inner: Guidance | None
) -> Denoiser:
    log_prob = need_open("classifier", context, checkpoint) if checkpoint else context.log_prob
    if log_prob is None:
        raise ConfigError(
            "classifier: there is no log_prob(z, gamma, cond) to follow; name a trained one, "
            "classifier(checkpoint='DIR')"
        )
    return follow(denoiser if inner is None else inner(denoiser, context), log_prob, scale)


def make(scale: float = 1.0, checkpoint: str = "", inner: Guidance | None = None) -> Guidance:
    """Guidance towards the class.

    Args:
        scale: the weight: 1 is Bayes' rule for an unconditional model and an exact classifier.
        checkpoint: the classifier, a work directory or checkpoint folder; empty for the caller's
            `context.log_prob`.
        inner: guidance below it, for example `cfg(w=0.0)` to start from the unconditional
            prediction of a conditional model; None for the denoiser as it is.

    Returns:
        The guidance. Applying it without a classifier raises `ConfigError`.
    """
    return functools.partial(_guide, scale=float(scale), checkpoint=checkpoint, inner=inner)
