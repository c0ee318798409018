"""Equal steps in the time of the model's schedule, as in VDM."""

from collections.abc import Callable

import numpy as np

from diffusion_jax.sampling.grids.base import Grid


def _grid(
    gamma_0: float, gamma_1: float, steps: int, gamma_of_t: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    gammas = np.array(gamma_of_t(np.linspace(1.0, 0.0, steps + 1)), dtype=np.float64)
    gammas[0], gammas[-1] = gamma_1, gamma_0
    return gammas


def make() -> Grid:
    """Uniform in t."""
    return _grid
