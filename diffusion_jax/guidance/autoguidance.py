"""Autoguidance (Karras et al. 2024, "Guiding a diffusion model with a bad version of itself").

`pred = other + w (denoiser - other)`, where `other` is a worse model of the same condition.
"""

import functools

import jax

from diffusion_jax.errors import ConfigError
from diffusion_jax.guidance.base import Context, Guidance
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def _guide(denoiser: Denoiser, context: Context, w: float) -> Denoiser:
    if context.other is None:
        raise ConfigError("autoguidance: there is no second model; give one (a weaker checkpoint)")

    def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
        good, bad = denoiser(z, gamma, cond), context.other(z, gamma, cond)
        return jax.tree.map(lambda g, b: b + w * (g - b), good, bad)

    return denoiser if w == 1.0 else guided


def make(w: float = 2.0) -> Guidance:
    """Autoguidance.

    Args:
        w: the weight: 0 is the other model, 1 this one, above 1 moves away from the other.

    Returns:
        The guidance. Applying it without a second model raises `ConfigError`.
    """
    return functools.partial(_guide, w=float(w))
