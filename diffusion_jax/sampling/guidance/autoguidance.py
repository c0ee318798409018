"""Autoguidance (Karras et al. 2024, "Guiding a diffusion model with a bad version of itself").

`pred = other + w (denoiser - other)`, where `other` is a worse model with the same condition.
"""

from dataclasses import dataclass

import jax

from diffusion_jax.allowed import Finite
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, need_open
from diffusion_jax.types import Array, Cond, Denoiser, Pred


@dataclass(frozen=True)
class Autoguidance:
    """Autoguidance by a checkpoint, or by `context.other` if it is empty."""

    w: float
    checkpoint: str

    def check(self, context: Context) -> None:
        """Needs a second model."""
        self._other(context)

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        other = self._other(context)

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            good, bad = denoiser(z, gamma, cond), other(z, gamma, cond)
            return jax.tree.map(lambda g, b: b + self.w * (g - b), good, bad)

        return denoiser if self.w == 1.0 else guided

    def _other(self, context: Context) -> Denoiser:
        if self.checkpoint:
            return need_open("denoiser", context, self.checkpoint)
        if context.other is None:
            raise ConfigError(
                "autoguidance: there is no second model; name one: autoguidance(checkpoint='DIR')"
            )
        return context.other


def make(w: Finite = 2.0, checkpoint: str = "") -> Autoguidance:
    """Autoguidance.

    Args:
        w: the weight: 0 is the other model, 1 this one, above 1 moves away from the other.
        checkpoint: the other model, a work directory or checkpoint folder (for example an early
            checkpoint of the same run); empty for the caller's `context.other`.

    Returns:
        The guidance. Applying it without a second model raises `ConfigError`.
    """
    return Autoguidance(float(w), checkpoint)
