"""The grid of N steps with the least bound: exact, by dynamic programming (Watson et al. 2021).

The diffusion term of a model with N steps is `sum_i 1/2 expm1(g_i - g_{i-1}) m(g_i)`, with
`m(gamma) = E |eps - eps_hat|^2`. Given m, the best of all grids on a fine set of gammas is found
without search. It is best for the likelihood, which says nothing of how samples look.
"""

import functools
import json
from collections.abc import Callable

import numpy as np

from diffusion_jax.allowed import Frames
from diffusion_jax.errors import ConfigError
from diffusion_jax.runtime.storage import place
from diffusion_jax.sampling.grids.base import Grid


def cost(gammas: np.ndarray, error: np.ndarray) -> float:
    """The diffusion term of a grid (rising or falling), in the unit of `error`, m at its gammas."""
    order = np.argsort(gammas)
    g, m = np.asarray(gammas)[order], np.asarray(error)[order]
    return float(0.5 * np.sum(np.expm1(np.diff(g)) * m[1:]))


def best(gammas: np.ndarray, error: np.ndarray, steps: int) -> np.ndarray:
    """The grid of `steps` steps, from the last of `gammas` to the first, that costs least.

    Args:
        gammas: where it may stop, rising, `[n]`.
        error: `m` there.
        steps: at most `n - 1`.

    Returns:
        `[steps + 1]` of the gammas, falling.
    """
    n = len(gammas)
    up = gammas[None, :] - gammas[:, None]  # from i to j
    one = np.where(up > 0, 0.5 * np.expm1(np.maximum(up, 0.0)) * error[None, :], np.inf)
    least, came = np.full(n, np.inf), np.zeros((steps, n), int)
    least[0] = 0.0
    for k in range(steps):
        total = least[:, None] + one
        came[k] = np.argmin(total, axis=0)
        least = total[came[k], np.arange(n)]
    path = [n - 1]
    for k in reversed(range(steps)):
        path.append(came[k, path[-1]])
    return gammas[path]


def _read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """`(gamma, m)` of a report of `--mode=inspect`, m up to a factor."""
    try:
        found = json.loads(place(path).read_text())["loss_by_gamma"]
        gamma, mean = (np.asarray(found[k], np.float64) for k in ("gamma", "mean"))
        if gamma.shape != mean.shape or gamma.ndim != 1 or len(gamma) < 2:
            raise ValueError("loss_by_gamma is not two lists of equal length")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(
            f"dp: curve={path!r} cannot be read ({e}); it is the JSON that --mode=inspect writes"
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
        raise ConfigError(f"dp: nodes={nodes} must be more than the {steps} steps")
    at = np.linspace(gamma_0, gamma_1, nodes)
    error = np.exp(-np.logaddexp(0.0, at))  # of standard normal data
    if curve:
        gamma, mean = _read(curve)
        error = np.exp(np.interp(at, gamma, np.log(mean)))
    gammas = best(at, error, steps)
    gammas[0], gammas[-1] = gamma_1, gamma_0
    return gammas


def make(curve: str = "", nodes: Frames = 400) -> Grid:
    """The grid of least bound.

    Args:
        curve: a JSON of `--mode=inspect`, the model's loss against gamma; empty: as if the data
            were standard normal.
        nodes: gammas that it may stop at, equally far apart; more than there are steps.
    """
    return functools.partial(_grid, curve=curve, nodes=nodes)
