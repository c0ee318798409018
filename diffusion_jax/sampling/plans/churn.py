"""Churn: a little noise before each step (Karras et al. 2022, algorithm 2).

A level `sigma / alpha` is raised by the factor `1 + k` with `k = min(amount / steps, sqrt(2) - 1)`,
but never above the start of the grid. The paper's `S_noise` is 1 here: with any other value the
move would not be a draw from the forward process.
"""

import functools
import math

import numpy as np

from diffusion_jax.allowed import NotNegative, Number
from diffusion_jax.sampling.plans.base import Plan, descending


def _churn(gammas: np.ndarray, amount: float, lo: float, hi: float) -> np.ndarray:
    gammas = descending(gammas)
    k = min(amount / (gammas.size - 1), math.sqrt(2.0) - 1.0)
    plan = []
    for gamma in gammas[:-1]:
        plan.append(gamma)
        raised = min(gamma + 2.0 * math.log1p(k), gammas[0])
        if lo <= gamma <= hi and raised > gamma:
            plan.append(raised)
    return np.array([*plan, gammas[-1]])


def make(amount: NotNegative = 10.0, lo: Number = -math.inf, hi: Number = math.inf) -> Plan:
    """Churn; a grid of n steps becomes a plan of at most 2 n.

    Args:
        amount: the paper's `S_churn`.
        lo: lowest gamma that is churned (in the paper `2 log S_tmin`).
        hi: highest gamma that is churned (in the paper `2 log S_tmax`).

    Returns:
        The plan; it raises `ConfigError` for a grid that does not descend.
    """
    return functools.partial(_churn, amount=amount, lo=lo, hi=hi)
