"""A grid written out by hand; upward moves are allowed."""

import functools
from collections.abc import Callable

import numpy as np

from diffusion_jax.allowed import Number
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.grids.base import Grid

_TOLERANCE = 1e-3  # end points of a learned schedule are not round numbers


def _grid(
    gamma_0: float,
    gamma_1: float,
    steps: int,
    gamma_of_t: Callable[[np.ndarray], np.ndarray],
    values: tuple[float, ...],
) -> np.ndarray:
    if steps != len(values) - 1:
        raise ConfigError(
            f"array: {len(values)} values make {len(values) - 1} steps, but sample.steps={steps}"
        )
    gammas = np.asarray(values, np.float64)
    if gammas.min() < gamma_0 - _TOLERANCE or gammas.max() > gamma_1 + _TOLERANCE:
        raise ConfigError(
            f"array: values must lie in the range of the model's gammas, {gamma_0:.4f} (data) to "
            f"{gamma_1:.4f} (noise); got {gammas.min():.4f} to {gammas.max():.4f}"
        )
    return np.clip(gammas, gamma_0, gamma_1)


def make(values: tuple[Number, ...]) -> Grid:
    """The given gammas.

    Args:
        values: gammas in sampling order, noise first; one more than the number of steps.

    Returns:
        The grid; it raises `ConfigError` for a wrong number of steps or values outside the range
        of the model.

    Raises:
        ConfigError: fewer than two values.
    """
    if np.ndim(values) != 1 or len(values) < 2:
        raise ConfigError(f"array: values={values} must be at least two gammas")
    return functools.partial(_grid, values=tuple(map(float, values)))
