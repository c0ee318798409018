"""Equal steps in `(sigma / alpha)^(1 / rho)` (Karras et al. 2022, equation 5)."""

import functools
from collections.abc import Callable

import numpy as np

from diffusion_jax.allowed import PositiveOrInfinite
from diffusion_jax.sampling.grids.base import Grid


def _grid(
    gamma_0: float,
    gamma_1: float,
    steps: int,
    gamma_of_t: Callable[[np.ndarray], np.ndarray],
    power: float,
) -> np.ndarray:
    gammas = np.linspace(gamma_1, gamma_0, steps + 1)
    if np.isfinite(power):  # expm1 and log1p stay accurate for a large power
        share = np.linspace(0.0, 1.0, steps + 1)[1:-1]
        fall = np.log1p(share * np.expm1((gamma_0 - gamma_1) / (2.0 * power)))
        gammas[1:-1] = gamma_1 + 2.0 * power * fall
    return gammas


def make(rho: PositiveOrInfinite = 7.0) -> Grid:
    """The grid of Karras et al.

    Args:
        rho: the paper's exponent; larger puts more steps near the data, infinity is uniform
            log-SNR.
    """
    return functools.partial(_grid, power=float(rho))
