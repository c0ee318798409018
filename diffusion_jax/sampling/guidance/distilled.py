"""Guidance weight for a student that takes the weight as a condition: `distilled(w=2.0)`."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import NotNegative
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.types import Array, Cond, Denoiser, Pred


@dataclass(frozen=True)
class Distilled:
    """Classifier-free guidance by one call of a student that was distilled from two calls."""

    w: float

    def check(self, context: Context) -> None:
        """Needs a network that is conditioned on the weight."""
        if "w" not in context.cond_scalars:
            raise ConfigError(
                f"distilled(w={self.w}): this network is not conditioned on a guidance weight, as "
                f"students trained with distill(weight=3.0) are; use cfg(w={self.w})"
            )

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The denoiser with the weight in its condition."""

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            return denoiser(z, gamma, {**cond, "w": jnp.full(z.shape[0], self.w, z.dtype)})

        return guided


def make(w: NotNegative = 1.5) -> Distilled:
    """The guidance weight of a student, see `distill(weight=...)`.

    Args:
        w: the weight (0 is unconditional, 1 conditional, above 1 stronger); at most the `weight`
            that the student was trained with.
    """
    return Distilled(float(w))
