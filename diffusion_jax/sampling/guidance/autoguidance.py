"""Autoguidance (Karras et al. 2024, "Guiding a diffusion model with a bad version of itself").

`pred = other + w (denoiser - other)`, where `other` is a worse model of the same condition.
"""

import functools

import jax

from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, Guidance, need_open
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def _guide(denoiser: Denoiser, context: Context, w: float, checkpoint: str) -> Denoiser:
    other = need_open("denoiser", context, checkpoint) if checkpoint else context.other
    if other is None:
        raise ConfigError(
            "autoguidance: there is no second model; name one, autoguidance(checkpoint='DIR')"
        )

    def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
        good, bad = denoiser(z, gamma, cond), other(z, gamma, cond)
        return jax.tree.map(lambda g, b: b + w * (g - b), good, bad)

    return denoiser if w == 1.0 else guided


def make(w: float = 2.0, checkpoint: str = "") -> Guidance:
    """Autoguidance.

    Args:
        w: the weight: 0 is the other model, 1 this one, above 1 moves away from the other.
        checkpoint: the other model, a work directory or checkpoint folder (an early checkpoint of
            the same run, say); empty for the caller's `context.other`.

    Returns:
        The guidance. Applying it without a second model raises `ConfigError`.
    """
    return functools.partial(_guide, w=float(w), checkpoint=checkpoint)
