"""The contract of guidance: `(denoiser, context) -> denoiser`, so methods compose by nesting.

Weights follow one convention: 0 is unconditional, 1 is conditional, above 1 extrapolates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from diffusion_jax.types import Array, Cond, Denoiser


@dataclass(frozen=True)
class Context:
    """What a guidance method may use beside the denoiser.

    Attributes:
        null: turns a condition into the null condition; None for an unconditional model.
        other: a second denoiser (for example a weaker checkpoint), or None.
        log_prob: `log_prob(z, gamma, cond) -> [B]`, differentiable in z, or None.
    """

    null: Callable[[Cond], Cond] | None = None
    other: Denoiser | None = None
    log_prob: Callable[[Array, Array, Cond], Array] | None = None


@runtime_checkable
class Guidance(Protocol):
    """Turns a denoiser into a guided one."""

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
