"""The contract of a plan: `gammas -> gammas`, from a grid to a path with upward moves.

Plans are not solvers: `sampling.integrate` treats an upward move as a draw from the forward process
(to first order in its length for a model with an encoder), so each works with any sampler.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from diffusion_jax.errors import ConfigError


@runtime_checkable
class Plan(Protocol):
    """Adds upward moves to a grid."""

    def __call__(self, gammas: np.ndarray) -> np.ndarray:
        """The path, float64, with the ends of the descending grid `gammas` `[n + 1]`."""
        ...


def descending(gammas: np.ndarray) -> np.ndarray:
    """The grid `[n + 1]` in float64.

    Raises:
        ConfigError: it does not descend strictly.
    """
    gammas = np.asarray(gammas, np.float64)
    if gammas.ndim != 1 or gammas.size < 2 or np.any(np.diff(gammas) >= 0.0):
        raise ConfigError("a plan with upward moves starts from a strictly descending grid")
    return gammas
