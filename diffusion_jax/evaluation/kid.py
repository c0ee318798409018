"""Kernel distance: unbiased squared MMD with a cubic kernel (Binkowski et al. 2018, section 4)."""

from typing import Any

import numpy as np

from diffusion_jax.errors import DataError

LEAST = 20  # images on each side


def mmd(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The unbiased estimate of the squared MMD with `k(a, b) = (a . b / F + 1)^3`.

    Args:
        x: rows from one distribution, `[N, F]`.
        y: rows from the other, `[M, F]`.

    Returns:
        The estimate, which may be negative, and its jackknife variance (leaving out each row of
        each side in turn), which on average is not too small (Efron & Stein 1981).
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    within = []
    for a in (x, y):
        kernel = (a @ a.T / a.shape[1] + 1.0) ** 3
        np.fill_diagonal(kernel, 0.0)
        within.append(kernel.sum(1))
    kernel = (x @ y.T / x.shape[1] + 1.0) ** 3
    across = (kernel.sum(1), kernel.sum(0))
    sides = [_leave_one_out(*parts) for parts in zip(within, across, strict=True)]
    pairs, total = len(x) * len(y), across[0].sum()
    value = sum(whole for whole, _, _ in sides) - 2.0 * total / pairs
    variance = 0.0
    for (whole, less, rest), n in zip(sides, (len(x), len(y)), strict=True):
        change = (less - whole) - 2.0 * (rest / (pairs / n * (n - 1)) - total / pairs)
        variance += (n - 1) / n * np.sum((change - change.mean()) ** 2)
    return float(value), float(variance)


def _leave_one_out(within: np.ndarray, across: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean kernel within one side; that mean, and the sum of `across`, without each row."""
    n, total = len(within), within.sum()
    whole = total / (n * (n - 1))
    return whole, (total - 2.0 * within) / ((n - 1) * (n - 2)), across.sum() - across


def kernel_distance(
    x: np.ndarray, y: np.ndarray, subset: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The mean of estimates from disjoint subsets, and its standard error.

    Published code draws overlapping subsets and reports their spread, which is not the error of
    the mean. Disjoint subsets are independent, and use every image.

    Args:
        x: features of the samples, `[N, F]`.
        y: features of the reference, `[M, F]`.
        subset: approximate number of rows per subset, on the smaller side.
        seed: seed for the division into subsets.

    Returns:
        `value`, `standard_error` and `subsets`.

    Raises:
        DataError: one side has fewer than 20 rows.
    """
    least = min(len(x), len(y))
    if least < LEAST:
        raise DataError(
            f"kid needs {LEAST} images on each side, but there are {least}: draw more "
            "(--config.sample.num), or leave kid out of --config.quality.metrics"
        )
    count = max(least // max(subset, LEAST), 1)
    rng = np.random.default_rng(seed)
    parts = (np.array_split(rng.permutation(len(a)), count) for a in (x, y))
    estimates = np.array([mmd(x[i], y[j]) for i, j in zip(*parts, strict=True)])
    return {
        "value": float(estimates[:, 0].mean()),
        "standard_error": float(np.sqrt(estimates[:, 1].sum()) / count),
        "subsets": count,
    }
