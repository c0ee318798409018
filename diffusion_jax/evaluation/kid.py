"""Kernel distance: unbiased squared MMD with a cubic kernel (Binkowski et al. 2018, section 4)."""

from typing import Any

import numpy as np

from diffusion_jax.errors import DataError

LEAST = 20  # images on a side


def mmd(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The unbiased estimate of the squared MMD with `k(a, b) = (a . b / F + 1)^3`.

    Args:
        x: rows of one law, `[N, F]`.
        y: rows of the other, `[M, F]`.

    Returns:
        The estimate, which may be negative, and its variance by the jackknife (leaving out each
        row of either side in turn), which is never too small on average (Efron & Stein 1981).
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    own = []
    for a in (x, y):
        kernel = (a @ a.T / a.shape[1] + 1.0) ** 3
        np.fill_diagonal(kernel, 0.0)
        own.append(kernel.sum(1))
    cross = (x @ y.T / x.shape[1] + 1.0) ** 3
    between = (cross.sum(1), cross.sum(0))
    sides = [_leave_one_out(*parts) for parts in zip(own, between, strict=True)]
    pairs, total = len(x) * len(y), between[0].sum()
    value = sum(whole for whole, _, _ in sides) - 2.0 * total / pairs
    variance = 0.0
    for (whole, less, rest), n in zip(sides, (len(x), len(y)), strict=True):
        change = (less - whole) - 2.0 * (rest / (pairs / n * (n - 1)) - total / pairs)
        variance += (n - 1) / n * np.sum((change - change.mean()) ** 2)
    return float(value), float(variance)


def _leave_one_out(own: np.ndarray, between: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean kernel of pairs of one side, the same without each row, and the rest of `between`."""
    n, total = len(own), own.sum()
    whole = total / (n * (n - 1))
    return whole, (total - 2.0 * own) / ((n - 1) * (n - 2)), between.sum() - between


def kernel_distance(
    x: np.ndarray, y: np.ndarray, subset: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The mean of estimates from disjoint subsets, and its standard error.

    Published code draws overlapping subsets and quotes their spread, which is no error of the
    mean. Disjoint ones are independent, and every image counts.

    Args:
        x: samples' features, `[N, F]`.
        y: the reference's, `[M, F]`.
        subset: about how many rows of the smaller side make a subset; all, if there are fewer.
        seed: of the division into subsets.

    Returns:
        `value`, `standard_error` and `subsets`.

    Raises:
        DataError: fewer than 20 rows on a side.
    """
    least = min(len(x), len(y))
    if least < LEAST:
        raise DataError(
            f"kid needs {LEAST} images on either side; there are {least}: draw more "
            "(--config.sample.num), or leave kid out of --config.quality.metrics"
        )
    count = max(least // max(subset, LEAST), 1)
    rng = np.random.default_rng(seed)
    parts = (np.array_split(rng.permutation(len(a)), count) for a in (x, y))
    found = np.array([mmd(x[i], y[j]) for i, j in zip(*parts, strict=True)])
    return {
        "value": float(found[:, 0].mean()),
        "standard_error": float(np.sqrt(found[:, 1].sum()) / count),
        "subsets": count,
    }
