"""How far samples of one text, or class, lie from each other: what guidance takes unnoticed."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

_MOST = 100  # of one text, the first ones


def within(rows: np.ndarray, groups: Sequence[Hashable]) -> dict[str, Any] | None:
    """The mean distance between two of one group, averaged over groups that have two or more.

    Args:
        rows: features, `[N, F]`.
        groups: what each was to show, N.

    Returns:
        `value`; `standard_error`, over groups; `groups`, how many. None where no group has two.
    """
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    found = np.asarray([_mean(rows[m[:_MOST]]) for m in members.values() if len(m) > 1])
    if not len(found):
        return None
    error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else None
    return {"value": float(found.mean()), "standard_error": error, "groups": len(found)}


def _mean(rows: np.ndarray) -> float:
    """The mean Euclidean distance over pairs of different rows."""
    x = np.asarray(rows, np.float64)
    n = len(x)
    return sum(float(np.linalg.norm(x[i + 1 :] - x[i], axis=1).sum()) for i in range(n)) / (
        n * (n - 1) / 2
    )
