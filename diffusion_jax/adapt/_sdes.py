"""The SDEs of score models."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.types import Array


@dataclass(frozen=True)
class SDE:
    """An SDE with `x_t = signal (x + ratio eps)`.

    Attributes:
        low: default of the first parameter.
        high: default of the second parameter.
        time: `(ratio, low, high) -> t`.
        ratio: the inverse of `time`, `(t, low, high) -> ratio`.
        signal: `ratio -> signal`.
    """

    low: float
    high: float
    time: Callable[[Array, float, float], Array]
    ratio: Callable[[float, float, float], float]
    signal: Callable[[Array], Array]


def _time_of(area: Array, low: float, high: float) -> Array:
    """The time at which the area below `beta(t) = low + (high - low) t` is `area`."""
    return 2 * area / (low + jnp.sqrt(low**2 + 2 * (high - low) * area))


def _area(t: float, low: float, high: float) -> float:
    return low * t + 0.5 * (high - low) * t * t


# signal = exp(-area / 2); noise is sqrt(1 - signal^2) in "vp" and 1 - signal^2 in "subvp".
SDES: dict[str, SDE] = {
    "ve": SDE(
        0.01, 50.0,
        time=lambda ratio, low, high: jnp.log(ratio / low) / math.log(high / low),
        ratio=lambda t, low, high: low * (high / low) ** t,
        signal=jnp.ones_like,
    ),
    "vp": SDE(
        0.1, 20.0,
        time=lambda ratio, low, high: _time_of(jnp.log1p(ratio**2), low, high),
        ratio=lambda t, low, high: math.sqrt(math.expm1(_area(t, low, high))),
        signal=lambda ratio: jax.lax.rsqrt(1 + ratio**2),
    ),
    "subvp": SDE(
        0.1, 20.0,
        time=lambda ratio, low, high: _time_of(2 * jnp.arcsinh(0.5 * ratio), low, high),
        ratio=lambda t, low, high: 2 * math.sinh(0.5 * _area(t, low, high)),
        signal=lambda ratio: jnp.exp(-jnp.arcsinh(0.5 * ratio)),
    ),
}  # fmt: skip
