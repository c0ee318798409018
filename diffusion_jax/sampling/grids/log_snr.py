"""Equal steps in log-SNR: the default, for which multistep methods keep their order."""

from collections.abc import Callable

import numpy as np

from diffusion_jax.sampling.grids.base import Grid


def _grid(
    gamma_0: float, gamma_1: float, steps: int, gamma_of_t: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    return np.linspace(gamma_1, gamma_0, steps + 1, dtype=np.float64)


def make() -> Grid:
    """Uniform in gamma."""
    return _grid
