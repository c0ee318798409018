"""Baselines for sequences: code lengths under simple models fitted to the training data.

They are fair competitors of a model of signals or texts: they are fitted to the same training data
and code one value after the other. As for a network, the cost of parameters is not counted.
"""

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np


def rivals(train: np.ndarray, test: np.ndarray, levels: int, medium: str) -> list[dict[str, Any]]:
    """Records like those of `other_formats.rivals`, without writing files; empty for other media.

    Args:
        train: examples to fit to, uint8 `[N, 1, T, C]`.
        test: examples to code, uint8 `[N, 1, T, C]`.
        levels: number of levels of both.
        medium: name of the medium.
    """
    out = []
    for name, model in _MODELS.get(medium, {}).items():
        bits = model(train[:, 0], test[:, 0], levels) / test.size
        out.append({"format": name, "bits_per_dim": bits})
    return out


def fit(medium: str) -> bool:
    """Whether there are baselines for a medium."""
    return medium in _MODELS


def autoregression(train: np.ndarray, test: np.ndarray, levels: int, order: int) -> float:
    """Total bits of signals under a linear prediction with binned Gaussian errors.

    Args:
        train: signals to fit to, `[N, T, C]`; each channel has its own coefficients.
        test: signals to code, `[N, T, C]`.
        levels: number of levels; the outermost bins are unbounded.
        order: number of earlier values used; the first values of a signal, which have fewer, each
            have their own model.
    """
    from scipy.special import ndtr

    total, edges = 0.0, np.arange(levels - 1) + 0.5
    edges = np.concatenate([[-np.inf], edges, [np.inf]])
    for c in range(train.shape[2]):
        fitted, coded = train[..., c].astype(float), test[..., c].astype(float)
        for t in range(coded.shape[1]):
            p = min(t, order)
            times = [t] if t < order else range(order, fitted.shape[1])
            if t <= order:  # later values share the model of full order
                x = np.concatenate([_before(fitted, s, p) for s in times])
                y = np.concatenate([fitted[:, s] for s in times])
                weights = np.linalg.lstsq(x, y, rcond=None)[0]
                deviation = max(float(np.std(y - x @ weights)), 0.1)
            mean = _before(coded, t, p) @ weights
            k = coded[:, t].astype(int)
            upper, lower = (ndtr((edges[k + i] - mean) / deviation) for i in (1, 0))
            # Probabilities can underflow to 0: a level costs at most 24 bits, as in the codec.
            total -= float(np.log2(np.maximum(upper - lower, 2.0**-24)).sum())
    return total


def _before(a: np.ndarray, t: int, p: int) -> np.ndarray:
    """The p values before t, and a constant 1: `[N, p + 1]`."""
    return np.concatenate([a[:, t - p : t], np.ones((len(a), 1))], axis=1)


class KneserNey:
    """An n-gram model with interpolated Kneser-Ney smoothing (Chen & Goodman 1999), one discount.

    Args:
        train: rows of levels, `[N, T]`; contexts do not extend beyond the start of a row.
        levels: number of levels.
        order: length n of the n-grams.
        discount: amount subtracted from every count.
    """

    def __init__(self, train: np.ndarray, levels: int, order: int, discount: float = 0.75):
        self._levels, self._order, self._discount = levels, order, discount
        counts: list[dict[tuple, Counter]] = [defaultdict(Counter) for _ in range(order)]
        seen: set[tuple] = set()
        for row in train.tolist():
            for t, level in enumerate(row):
                for n in range(min(t + 1, order)):
                    context = tuple(row[t - n : t])
                    # Below the highest order, count the contexts in which a level occurs.
                    if n == order - 1 or n == t:
                        counts[n][context][level] += 1
                    elif (longer := (*row[t - n - 1 : t], level)) not in seen:
                        counts[n][context][level] += 1
                        seen.add(longer)
        self._counts = counts

    def probabilities(self, before: tuple[int, ...]) -> np.ndarray:
        """The probabilities of all levels after the levels `before`, `[levels]`."""
        p = np.full(self._levels, 1.0 / self._levels)
        before = before[-(self._order - 1) :] if self._order > 1 else ()
        for n in range(len(before) + 1):
            counts = self._counts[n].get(before[len(before) - n :])
            if not counts:
                break
            total = sum(counts.values())
            discounted = np.zeros(self._levels)
            for level, count in counts.items():
                discounted[level] = max(count - self._discount, 0.0)
            p = discounted / total + (1.0 - discounted.sum() / total) * p
        return p

    def bits(self, rows: np.ndarray) -> float:
        """Total bits of rows of levels `[N, T]`."""
        cache: dict[tuple, np.ndarray] = {}
        total = 0.0
        for row in rows.tolist():
            for t, level in enumerate(row):
                before = tuple(row[max(t - self._order + 1, 0) : t])
                if before not in cache:
                    cache[before] = self.probabilities(before)
                total -= math.log2(cache[before][level])
        return total


def _regression(order: int) -> Any:
    return lambda train, test, levels: autoregression(train, test, levels, order)


def _ngram(order: int) -> Any:
    return lambda train, test, levels: KneserNey(train[..., 0], levels, order).bits(test[..., 0])


_MODELS: dict[str, dict[str, Any]] = {
    "signal": {f"AR({p}), fitted to train": _regression(p) for p in (1, 8)},
    "text": {f"{n}-gram, Kneser-Ney": _ngram(n) for n in (2, 4, 6)},
}
