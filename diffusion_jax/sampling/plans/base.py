"""The contract of a plan: `gammas -> gammas`, from a grid to a path with upward moves.

None of these is a solver: `sampling.integrate` takes an upward move as a draw of the forward
process (to first order in its length for a model with an encoder), so each works with any sampler.
"""

from typing import Protocol, runtime_checkable

import numpy as np

from diffusion_jax.errors import ConfigError


@runtime_checkable
class Plan(Protocol):
    """Where a run goes up again."""

    def __call__(self, gammas: np.ndarray) -> np.ndarray:
        """The path, float64, with the ends of the descending grid `gammas` `[n + 1]`."""
        ...


def descending(gammas: np.ndarray) -> np.ndarray:
    """The grid in float64.

    Args:
        gammas: grid `[n + 1]`.

    Returns:
        The same values.

    Raises:
        ConfigError: they do not descend strictly.
    """
    gammas = np.asarray(gammas, np.float64)
    if gammas.ndim != 1 or gammas.size < 2 or np.any(np.diff(gammas) >= 0.0):
        raise ConfigError("a plan with upward moves starts from a strictly descending grid")
    return gammas
