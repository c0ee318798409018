"""Resampling: every stretch is run several times (Lugmayr et al. 2022, "RePaint", algorithm 1).

With `sampling.replacement`, the repetitions make the unknown pixels consistent with the known ones.
"""

import functools

import numpy as np

from diffusion_jax.allowed import Count
from diffusion_jax.sampling.plans.base import Plan, descending


def _repaint(gammas: np.ndarray, jump: int, resamplings: int) -> np.ndarray:
    gammas = descending(gammas)
    plan = [gammas[:1]]
    for start in range(0, gammas.size - 1, jump):
        stretch = gammas[start : start + jump + 1]
        plan += [stretch[1:], *[stretch] * (resamplings - 1)]
    return np.concatenate(plan)


def make(jump: Count = 10, resamplings: Count = 10) -> Plan:
    """Runs every `jump` steps `resamplings` times.

    Args:
        jump: steps per stretch.
        resamplings: number of runs of each stretch; 1 is the plain grid.

    Returns:
        The plan; it raises `ConfigError` for a grid that does not descend.
    """
    return functools.partial(_repaint, jump=jump, resamplings=resamplings)
