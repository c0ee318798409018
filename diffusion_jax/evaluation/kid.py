"""Kernel distance: unbiased squared MMD with a cubic kernel (Binkowski et al. 2018, section 4)."""

from typing import Any

import numpy as np

from diffusion_jax.errors import DataError

_BLOCKS = 10  # independent estimates that a standard error takes at least


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of the squared MMD with `k(a, b) = (a . b / F + 1)^3`.

    Args:
        x: rows of one law, `[N, F]`.
        y: rows of the other, `[M, F]`.

    Returns:
        The estimate; it may be negative.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, m, size = len(x), len(y), x.shape[1]

    def others(a: np.ndarray) -> float:
        kernel = (a @ a.T / size + 1.0) ** 3
        return (kernel.sum() - np.trace(kernel)) / (len(a) * (len(a) - 1))

    return float(others(x) + others(y) - 2.0 * ((x @ y.T / size + 1.0) ** 3).sum() / (n * m))


def kernel_distance(
    x: np.ndarray, y: np.ndarray, subset: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The mean of estimates from disjoint subsets, and its standard error.

    Published code draws overlapping subsets and quotes their spread, which is no error of the
    mean; disjoint ones are independent, so that theirs is.

    Args:
        x: samples' features, `[N, F]`.
        y: the reference's, `[M, F]`.
        subset: rows in a subset, at most; fewer where there would not be ten.
        seed: of the shuffling.

    Returns:
        `value`, `standard_error`, `subsets` and `subset` (rows in each).

    Raises:
        DataError: fewer than 20 rows on a side.
    """
    least = min(len(x), len(y))
    if least < 2 * _BLOCKS:
        raise DataError(f"kid needs {2 * _BLOCKS} images on either side; there are {least}")
    size = max(min(subset, least // _BLOCKS), 2)
    count = least // size
    rng = np.random.default_rng(seed)
    rows, others = (rng.permutation(len(a))[: count * size].reshape(count, size) for a in (x, y))
    found = np.array([mmd(x[i], y[j]) for i, j in zip(rows, others, strict=True)])
    return {
        "value": float(found.mean()),
        "standard_error": float(found.std(ddof=1) / np.sqrt(count)),
        "subsets": count,
        "subset": size,
    }
