"""Classifier guidance, and any other guidance by a score (Dhariwal & Nichol 2021, algorithm 2).

`score += scale grad_z log p(z, gamma, cond)`, with the function `context.log_prob`. A classifier
of noisy images gives `log p(class | z)`, a discriminator `log D - log(1 - D)` (Kim et al. 2023), a
noisy image encoder its similarity to a text.
"""

import functools

import jax

from diffusion_jax.errors import ConfigError
from diffusion_jax.guidance.base import Context, Guidance, with_score
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def _guide(denoiser: Denoiser, context: Context, scale: float, inner: Guidance | None) -> Denoiser:
    if context.log_prob is None:
        raise ConfigError("classifier: there is no log_prob(z, gamma, cond) to follow; give one")
    base = denoiser if inner is None else inner(denoiser, context)

    def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
        # Examples do not see one another, so the gradient of the sum is each one's own.
        extra = jax.grad(lambda z: context.log_prob(z, gamma, cond).sum())(z)
        return with_score(base(z, gamma, cond), scale * extra, gamma)

    return guided


def make(scale: float = 1.0, inner: Guidance | None = None) -> Guidance:
    """Guidance by the gradient of `context.log_prob`.

    Args:
        scale: the weight: 1 is Bayes' rule for an unconditional model and an exact classifier.
        inner: guidance below it, for example `cfg(w=0.0)` to start from the unconditional
            prediction of a conditional model; None for the denoiser as it is.

    Returns:
        The guidance. Applying it without a `log_prob` raises `ConfigError`.
    """
    return functools.partial(_guide, scale=float(scale), inner=inner)
