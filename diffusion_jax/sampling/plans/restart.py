"""Restarts: one stretch of the grid is run again (Xu et al. 2023, "Restart sampling")."""

import functools

import numpy as np

from diffusion_jax.allowed import Finite, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.plans.base import Plan, descending


def _restart(gammas: np.ndarray, lo: float, hi: float, times: int) -> np.ndarray:
    gammas = descending(gammas)
    first, last = (int(np.argmin(np.abs(gammas - g))) for g in (hi, lo))
    if first >= last:
        raise ConfigError(f"restart: the grid has no step between hi={hi} and lo={lo}")
    stretch = gammas[first : last + 1]
    return np.concatenate([gammas[: last + 1], *[stretch] * times, gammas[last + 1 :]])


def make(lo: Finite = -2.0, hi: Finite = 2.0, times: Whole = 1) -> Plan:
    """Restarts; with m steps in the stretch, n steps become `n + times (m + 1)`.

    Args:
        lo: end of the stretch; the nearest grid point is taken.
        hi: start of the stretch; the nearest grid point is taken.
        times: number of times that the stretch is run again.

    Returns:
        The plan; it raises `ConfigError` if the grid has no step in the stretch or does not
        descend.
    """
    return functools.partial(_restart, lo=lo, hi=hi, times=times)
