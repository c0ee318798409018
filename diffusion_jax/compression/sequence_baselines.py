"""What simple models of sequences would take: code lengths of data by models fitted to others.

The fair rivals of a model of signals or texts: they have seen the same training data, and code one
value after the other. Parameters are not counted, as a network's are not.
"""

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np


def rivals(train: np.ndarray, found: np.ndarray, levels: int, medium: str) -> list[dict[str, Any]]:
    """Records as of `other_formats.rivals`, for media that have such rivals; no file is written.

    Args:
        train: examples to fit to, uint8 `[N, 1, T, C]`.
        found: examples to code, likewise.
        levels: of both.
        medium: its name.
    """
    out = []
    for name, model in _MODELS.get(medium, {}).items():
        bits = model(train[:, 0], found[:, 0], levels) / found.size
        out.append({"format": name, "bits_per_dim": bits})
    return out


def fit(medium: str) -> bool:
    """Whether a medium has such rivals."""
    return medium in _MODELS


def autoregression(train: np.ndarray, found: np.ndarray, levels: int, order: int) -> float:
    """Bits of signals by a linear prediction with Gaussian errors, in bins.

    Args:
        train: `[N, T, C]`; each channel has its own coefficients.
        found: likewise.
        levels: how many there are; the outermost bins have no end.
        order: earlier values that are looked at; where there are fewer, as many models are fitted.
    """
    from scipy.special import ndtr

    total, edges = 0.0, np.arange(levels - 1) + 0.5
    edges = np.concatenate([[-np.inf], edges, [np.inf]])
    for c in range(train.shape[2]):
        seen, coded = train[..., c].astype(float), found[..., c].astype(float)
        for t in range(coded.shape[1]):
            p = min(t, order)
            at = [t] if t < order else range(order, seen.shape[1])
            if t <= order:  # later ones share the model of full order
                x = np.concatenate([_before(seen, s, p) for s in at])
                y = np.concatenate([seen[:, s] for s in at])
                weights = np.linalg.lstsq(x, y, rcond=None)[0]
                deviation = max(float(np.std(y - x @ weights)), 0.1)
            mean = _before(coded, t, p) @ weights
            k = coded[:, t].astype(int)
            upper, lower = (ndtr((edges[k + i] - mean) / deviation) for i in (1, 0))
            # Half of a bin's Gaussian may lie below the resolution of floats: a level costs 24 bits
            # at most, as in the codec.
            total -= float(np.log2(np.maximum(upper - lower, 2.0**-24)).sum())
    return total


def _before(a: np.ndarray, t: int, p: int) -> np.ndarray:
    """The p values before t, and 1: `[N, p + 1]`."""
    return np.concatenate([a[:, t - p : t], np.ones((len(a), 1))], axis=1)


class KneserNey:
    """An n-gram model with interpolated Kneser-Ney smoothing (Chen & Goodman 1999), one discount.

    Args:
        train: rows of levels `[N, T]`; contexts do not reach over their beginning.
        levels: how many there are.
        order: n.
        discount: taken off every count.
    """

    def __init__(self, train: np.ndarray, levels: int, order: int, discount: float = 0.75):
        self._levels, self._order, self._discount = levels, order, discount
        counts: list[dict[tuple, Counter]] = [defaultdict(Counter) for _ in range(order)]
        seen: set[tuple] = set()
        for row in train.tolist():
            for t, level in enumerate(row):
                for n in range(min(t + 1, order)):
                    context = tuple(row[t - n : t])
                    # Below the highest order, count in how many contexts a level has been seen.
                    if n == order - 1 or n == t:
                        counts[n][context][level] += 1
                    elif (longer := (*row[t - n - 1 : t], level)) not in seen:
                        counts[n][context][level] += 1
                        seen.add(longer)
        self._counts = counts

    def law(self, before: tuple[int, ...]) -> np.ndarray:
        """The probabilities of all levels after those."""
        p = np.full(self._levels, 1.0 / self._levels)
        before = before[-(self._order - 1) :] if self._order > 1 else ()
        for n in range(len(before) + 1):
            found = self._counts[n].get(before[len(before) - n :])
            if not found:
                break
            total = sum(found.values())
            own = np.zeros(self._levels)
            for level, count in found.items():
                own[level] = max(count - self._discount, 0.0)
            p = own / total + (1.0 - own.sum() / total) * p
        return p

    def bits(self, rows: np.ndarray) -> float:
        """Bits of rows of levels `[N, T]`, all together."""
        known: dict[tuple, np.ndarray] = {}
        total = 0.0
        for row in rows.tolist():
            for t, level in enumerate(row):
                before = tuple(row[max(t - self._order + 1, 0) : t])
                if before not in known:
                    known[before] = self.law(before)
                total -= math.log2(known[before][level])
        return total


def _regression(order: int) -> Any:
    return lambda train, found, levels: autoregression(train, found, levels, order)


def _ngram(order: int) -> Any:
    return lambda train, found, levels: KneserNey(train[..., 0], levels, order).bits(found[..., 0])


_MODELS: dict[str, dict[str, Any]] = {
    "signal": {f"AR({p}), fitted to train": _regression(p) for p in (1, 8)},
    "text": {f"{n}-gram, Kneser-Ney": _ngram(n) for n in (2, 4, 6)},
}
