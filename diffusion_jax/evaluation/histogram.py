"""Compares the class histogram of samples with that of the data."""

from typing import Any

import numpy as np

_DRAWS = 2000


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms in bits, in [0, 1] (Lin 1991, equation 4.1).

    Args:
        p: weights of the classes, `[K]`; they need not sum to 1.
        q: weights of the other histogram, `[K]`.
    """
    p, q = (np.asarray(a, np.float64) / np.sum(a) for a in (p, q))
    middle = (p + q) / 2

    def relative(a: np.ndarray) -> float:
        positive = a > 0
        return float(np.sum(a[positive] * np.log2(a[positive] / middle[positive])))

    return (relative(p) + relative(q)) / 2


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of absolute differences between two histograms, in [0, 1]."""
    p, q = (np.asarray(a, np.float64) / np.sum(a) for a in (p, q))
    return float(np.abs(p - q).sum() / 2)


def spread(found: np.ndarray, data: np.ndarray, count: int, seed: int = 0) -> dict[str, Any]:
    """The effect of chance on `total_variation`, by simulating histograms of `count` samples.

    Args:
        found: shares of the classes among the samples, `[K]`.
        data: shares of the classes in the data, `[K]`.
        count: number of samples.
        seed: seed for the simulation.

    Returns:
        `chance`, the mean if samples are distributed like the data; and `interval`, the central 95%
        if they are distributed like `found`.
    """
    rng = np.random.default_rng(seed)

    def drawn(shares: np.ndarray) -> np.ndarray:
        return np.abs(rng.multinomial(count, shares, _DRAWS) / count - data).sum(1) / 2

    found, data = (np.asarray(a, np.float64) / np.sum(a) for a in (found, data))
    chance = float(drawn(data).mean())
    return {"chance": chance, "interval": np.quantile(drawn(found), [0.025, 0.975]).tolist()}


def classes(
    found: np.ndarray, data: np.ndarray, num_classes: int, names: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Compares the classes of samples with those of the data.

    Args:
        found: classes of the samples, `[N]`.
        data: classes of the data, `[M]`.
        num_classes: number of classes, K.
        names: names of the classes, or empty.

    Returns:
        `jensen_shannon_bits`, `total_variation`, the share of each class in `samples` and `data`,
        and the `least_represented` class with the `ratio` of its two shares.
    """
    p, q = (np.bincount(a, minlength=num_classes) / len(a) for a in (found, data))
    present = np.flatnonzero(q > 0)
    least = int(present[np.argmin(p[present] / q[present])])
    return {
        "jensen_shannon_bits": jensen_shannon(p, q),
        "total_variation": total_variation(p, q),
        "samples": p.tolist(),
        "data": q.tolist(),
        "least_represented": {
            "class": names[least] if names else str(least),
            "ratio": float(p[least] / q[least]),
        },
    }
