"""Diversity within a text or class. Guidance reduces it, and Frechet distance hides that."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

_MOST = 100  # only the first samples of each text are compared


def within(rows: np.ndarray, groups: Sequence[Hashable]) -> dict[str, Any] | None:
    """Mean distance between two samples of the same group, averaged over groups.

    Groups with a single sample are skipped.

    Args:
        rows: features, `[N, F]`.
        groups: text or class that each of the N samples was drawn for.

    Returns:
        `value`, its `standard_error` over groups, and the number of `groups`. None if no group has
        two samples.
    """
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    means = np.asarray([_mean(rows[m[:_MOST]]) for m in members.values() if len(m) > 1])
    if not len(means):
        return None
    error = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else None
    return {"value": float(means.mean()), "standard_error": error, "groups": len(means)}


def _mean(rows: np.ndarray) -> float:
    """Mean Euclidean distance over all pairs of different rows."""
    x = np.asarray(rows, np.float64)
    n = len(x)
    return sum(float(np.linalg.norm(x[i + 1 :] - x[i], axis=1).sum()) for i in range(n)) / (
        n * (n - 1) / 2
    )
