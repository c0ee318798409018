"""Errors in x weighted by a clipped SNR (Salimans & Ho 2022; Hang et al. 2023)."""

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
        # An infinite bound would give NaN gradients: infinity times 0.
        return jnp.minimum(w, self.high * jnp.exp(gamma)) if math.isfinite(self.high) else w


def make(low: NotNegative = 1.0, high: Number = float("inf")) -> TruncatedSNR:
    """Weights errors in x by the SNR, clipped to [`low`, `high`].

    Args:
        low: least weight: 1 in progressive distillation, 0 in min-SNR.
        high: greatest weight: infinite in progressive distillation, 5 in min-SNR.

    Raises:
        ConfigError: not `0 <= low < high`.
    """
    if not 0 <= low < high:
        raise ConfigError(f"truncated_snr: low={low}, high={high}; needs 0 <= low < high")
    return TruncatedSNR(low, high)
