"""Churn: a little noise before each step (Karras et al. 2022, algorithm 2).

A level `rho` goes up to `(1 + k) rho` with `k = min(amount / steps, sqrt(2) - 1)`, never above the
start of the grid. Their `S_noise` is 1: any other value leaves the forward process.
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
    """Churn; a grid of n steps becomes one of at most 2 n.

    Args:
        amount: their `S_churn`.
        lo: lowest gamma that is churned (theirs: `2 log S_tmin`).
        hi: highest gamma that is churned (theirs: `2 log S_tmax`).

    Returns:
        The plan; it raises `ConfigError` for a grid that does not descend.
    """
    return functools.partial(_churn, amount=amount, lo=lo, hi=hi)
