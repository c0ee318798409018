"""Classifier-free guidance (Ho & Salimans 2022), one batched network call.

`pred = null + w (conditional - null)`. The result is the same in every parameterization: they are
affine in each other, and the weights sum to one. The paper's weight is `w - 1`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from diffusion_jax.allowed import Finite
from diffusion_jax.sampling.guidance.base import Context, contrast, need_null, with_text
from diffusion_jax.types import Array, Cond, Denoiser, Pred


@dataclass(frozen=True)
class CFG:
    """Classifier-free guidance with weight `w`, against the null condition or a negative text."""

    w: float
    negative: str = ""

    @property
    def unconditional(self) -> bool:
        """Whether the guidance ignores the sample's condition."""
        return self.w == 0.0 and not self.negative

    def check(self, context: Context) -> None:
        """Needs a null condition; for a negative text, a model that takes texts."""
        self._weak(context)

    def _weak(self, context: Context) -> Callable[[Cond], Cond]:
        if self.negative:
            return with_text(f"cfg(negative={self.negative!r})", context, self.negative)
        return need_null("cfg", context)

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        null = self._weak(context)
        if self.w == 1.0:
            return denoiser
        if self.w == 0.0:
            return lambda z, gamma, cond: denoiser(z, gamma, null(cond))

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            strong, weak = contrast(denoiser, null, z, gamma, cond)
            return jax.tree.map(lambda c, u: u + self.w * (c - u), strong, weak)

        return guided


def make(w: Finite = 1.5, negative: str = "") -> CFG:
    """Classifier-free guidance with weight `w` (0 unconditional, 1 conditional, above 1 stronger).

    Args:
        w: the weight. 0 and 1 cost one network call of the batch, others one of twice the batch.
        negative: a text to guide away from, in place of the null condition.

    Returns:
        The guidance. Applying it to an unconditional model raises `ConfigError`.
    """
    return CFG(float(w), negative)
