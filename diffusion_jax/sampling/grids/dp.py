"""The grid of N steps with the lowest bound, by dynamic programming (Watson et al. 2021).

The diffusion term of a model with N steps is `sum_i 1/2 expm1(g_i - g_{i-1}) m(g_i)`, with
`m(gamma) = E |eps - eps_hat|^2`. Given m, dynamic programming finds the exact optimum among all
grids on a fine set of gammas. It optimises the likelihood, not the look of the samples.
"""

import functools
import json
from collections.abc import Callable

import numpy as np

from diffusion_jax.allowed import Frames
from diffusion_jax.errors import ConfigError
from diffusion_jax.runtime.storage import place
from diffusion_jax.sampling.grids.base import Grid


def best(gammas: np.ndarray, error: np.ndarray, steps: int) -> np.ndarray:
    """The cheapest grid of `steps` steps from the last of `gammas` to the first.

    Args:
        gammas: candidate gammas, rising, `[n]`.
        error: `m` at `gammas`.
        steps: number of steps, at most `n - 1`.

    Returns:
        `[steps + 1]` of the gammas, falling.
    """
    n = len(gammas)
    up = gammas[None, :] - gammas[:, None]  # from i to j
    step_cost = np.where(up > 0, 0.5 * np.expm1(np.maximum(up, 0.0)) * error[None, :], np.inf)
    least, predecessor = np.full(n, np.inf), np.zeros((steps, n), int)
    least[0] = 0.0
    for k in range(steps):
        total = least[:, None] + step_cost
        predecessor[k] = np.argmin(total, axis=0)
        least = total[predecessor[k], np.arange(n)]
    path = [n - 1]
    for k in reversed(range(steps)):
        path.append(predecessor[k, path[-1]])
    return gammas[path]


def _read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """`(gamma, m)` from a report of `--mode=inspect`, m up to a constant factor."""
    try:
        curve = json.loads(place(path).read_text())["loss_by_gamma"]
        gamma, mean = (np.asarray(curve[k], np.float64) for k in ("gamma", "mean"))
        if gamma.shape != mean.shape or gamma.ndim != 1 or len(gamma) < 2:
            raise ValueError("loss_by_gamma is not two lists of equal length")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(
            f"dp: curve={path!r} cannot be read ({e}); give the JSON that --mode=inspect writes"
        ) from e
    order = np.argsort(gamma)
    return gamma[order], np.maximum(mean[order], 1e-12)


def _grid(
    gamma_0: float,
    gamma_1: float,
    steps: int,
    gamma_of_t: Callable[[np.ndarray], np.ndarray],
    curve: str,
    nodes: int,
) -> np.ndarray:
    if steps >= nodes:
        raise ConfigError(f"dp: nodes={nodes} must be larger than the number of steps, {steps}")
    at = np.linspace(gamma_0, gamma_1, nodes)
    error = np.exp(-np.logaddexp(0.0, at))  # of standard normal data
    if curve:
        gamma, mean = _read(curve)
        error = np.exp(np.interp(at, gamma, np.log(mean)))
    gammas = best(at, error, steps)
    gammas[0], gammas[-1] = gamma_1, gamma_0
    return gammas


def make(curve: str = "", nodes: Frames = 400) -> Grid:
    """The grid with the lowest bound.

    Args:
        curve: JSON file of `--mode=inspect` with the model's loss against gamma; empty to assume
            standard normal data.
        nodes: number of equally spaced candidate gammas; more than the number of steps.
    """
    return functools.partial(_grid, curve=curve, nodes=nodes)
