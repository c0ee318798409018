"""Plans that go back up: churn, restarts, RePaint. Arrays of gamma in, arrays of gamma out.

None of these is a solver: `sampling.integrate` takes an upward move as an exact draw of the forward
process, so each of them works with every sampler.
"""

import numpy as np

from diffusion_jax.errors import ConfigError


def _descending(gammas: np.ndarray) -> np.ndarray:
    gammas = np.asarray(gammas, np.float64)
    if gammas.ndim != 1 or gammas.size < 2 or np.any(np.diff(gammas) >= 0.0):
        raise ConfigError("a plan with upward moves starts from a strictly descending grid")
    return gammas


def churn(gammas: np.ndarray, amount: float, lo: float = -np.inf, hi: float = np.inf) -> np.ndarray:
    """Raises the noise a little before each step (Karras et al. 2022, algorithm 2).

    A level `rho` goes up to `(1 + k) rho` with `k = min(amount / steps, sqrt(2) - 1)`, never above
    the start of the plan. Their `S_noise` is 1: any other value leaves the forward process.

    Args:
        gammas: descending grid `[n + 1]`.
        amount: their `S_churn`.
        lo: lowest gamma that is churned (theirs: `2 log S_tmin`).
        hi: highest gamma that is churned (theirs: `2 log S_tmax`).

    Returns:
        The plan, float64, at most `[2 n + 1]`.

    Raises:
        ConfigError: `amount` is negative, or the grid does not descend.
    """
    gammas = _descending(gammas)
    if amount < 0.0:
        raise ConfigError(f"churn: amount={amount} must not be negative")
    k = min(amount / (gammas.size - 1), np.sqrt(2.0) - 1.0)
    plan = []
    for gamma in gammas[:-1]:
        plan.append(gamma)
        raised = min(gamma + 2.0 * np.log1p(k), gammas[0])
        if lo <= gamma <= hi and raised > gamma:
            plan.append(raised)
    return np.array([*plan, gammas[-1]])


def restart(gammas: np.ndarray, lo: float, hi: float, times: int = 1) -> np.ndarray:
    """Runs the stretch from `hi` to `lo` again (Xu et al. 2023, "Restart sampling").

    Args:
        gammas: descending grid `[n + 1]`.
        lo: where the stretch ends; the nearest grid point is taken.
        hi: where it begins; the nearest grid point is taken.
        times: how many times it is run again.

    Returns:
        The plan, float64, `[n + 1 + times (m + 1)]` for a stretch of `m` steps.

    Raises:
        ConfigError: the stretch is empty on this grid, `times` is negative, or the grid does not
            descend.
    """
    gammas = _descending(gammas)
    first, last = (int(np.argmin(np.abs(gammas - g))) for g in (hi, lo))
    if first >= last:
        raise ConfigError(f"restart: there is no step of the grid between hi={hi} and lo={lo}")
    if times < 0:
        raise ConfigError(f"restart: times={times} must not be negative")
    stretch = gammas[first : last + 1]
    return np.concatenate([gammas[: last + 1], *[stretch] * times, gammas[last + 1 :]])


def repaint(gammas: np.ndarray, jump: int = 10, resamplings: int = 10) -> np.ndarray:
    """Runs every `jump` steps `resamplings` times (Lugmayr et al. 2022, "RePaint", algorithm 1).

    Together with `hooks.replace`, the repetitions make the unknown pixels agree with the known.

    Args:
        gammas: descending grid `[n + 1]`.
        jump: steps per stretch.
        resamplings: runs of each stretch; 1 is the plain grid.

    Returns:
        The plan, float64.

    Raises:
        ConfigError: `jump` or `resamplings` is not positive, or the grid does not descend.
    """
    gammas = _descending(gammas)
    if jump < 1 or resamplings < 1:
        raise ConfigError(f"repaint: jump={jump} and resamplings={resamplings} must be at least 1")
    plan = [gammas[:1]]
    for start in range(0, gammas.size - 1, jump):
        stretch = gammas[start : start + jump + 1]
        plan += [stretch[1:], *[stretch] * (resamplings - 1)]
    return np.concatenate(plan)
