"""Errors of x weighted by an SNR with limits (Salimans & Ho 2022; Hang et al. 2023)."""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import NotNegative, Number
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class TruncatedSNR:
    """`clip(SNR, low, high) / SNR`: 1 between the limits."""

    low: float
    high: float
    monotone: bool = True
    of_gamma: bool = True

    def __call__(self, gamma: Array, slope: Array) -> Array:
        """The weight at `gamma`."""
        w = jnp.maximum(1.0, self.low * jnp.exp(gamma))
        # Infinity times a gradient of 0 would be NaN.
        return jnp.minimum(w, self.high * jnp.exp(gamma)) if math.isfinite(self.high) else w


def make(low: NotNegative = 1.0, high: Number = float("inf")) -> TruncatedSNR:
    """The SNR between `low` and `high` as weight of the errors of x.

    Args:
        low: 1 in progressive distillation, 0 in min-SNR.
        high: none in progressive distillation, 5 in min-SNR.

    Raises:
        ConfigError: not `0 <= low < high`.
    """
    if not 0 <= low < high:
        raise ConfigError(f"truncated_snr: low={low}, high={high}; it must be 0 <= low < high")
    return TruncatedSNR(low, high)
