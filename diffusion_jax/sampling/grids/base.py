"""The contract of a grid: the gammas that a sampler visits.

A grid is `(gamma_0, gamma_1, steps, gamma_of_t) -> [steps + 1]`, float64 numpy, from `gamma_1`
(noise) down to `gamma_0` (data); only `array` may move up in between. `gamma_of_t` is the model's
schedule, for grids that are defined in time.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Grid(Protocol):
    """The noise levels that a sampler visits on its way from noise to data."""

    def __call__(
        self,
        gamma_0: float,
        gamma_1: float,
        steps: int,
        gamma_of_t: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Gammas `[steps + 1]`, float64, starting at `gamma_1` and ending at `gamma_0`."""
        ...
