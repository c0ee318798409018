"""The histogram of sampled classes against that of the data."""

from typing import Any

import numpy as np

_DRAWS = 2000


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms in bits, in [0, 1] (Lin 1991, equation 4.1).

    Args:
        p: weights of the classes, `[K]`; need not sum to 1.
        q: the others.
    """
    p, q = (np.asarray(a, np.float64) / np.sum(a) for a in (p, q))
    middle = (p + q) / 2

    def relative(a: np.ndarray) -> float:
        there = a > 0
        return float(np.sum(a[there] * np.log2(a[there] / middle[there])))

    return (relative(p) + relative(q)) / 2


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of absolute differences of two histograms, in [0, 1]."""
    p, q = (np.asarray(a, np.float64) / np.sum(a) for a in (p, q))
    return float(np.abs(p - q).sum() / 2)


def spread(found: np.ndarray, data: np.ndarray, count: int, seed: int = 0) -> dict[str, Any]:
    """What chance does to `total_variation`, by drawing histograms of as many samples.

    Args:
        found: shares of the classes among samples, `[K]`.
        data: their shares in the data.
        count: of samples.
        seed: of the draws.

    Returns:
        `chance`, the mean where samples are as the data; and `interval`, in which 95% are where
        they are as these samples.
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
        num_classes: K.
        names: of the classes, possibly empty.

    Returns:
        `jensen_shannon_bits`, `total_variation`, the shares of each class among `samples` and
        `data`, and the `least_represented` class with its share of samples per share of data.
    """
    p, q = (np.bincount(a, minlength=num_classes) / len(a) for a in (found, data))
    there = np.flatnonzero(q > 0)
    least = int(there[np.argmin(p[there] / q[there])])
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
