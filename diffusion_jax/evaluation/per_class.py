"""Figures of classes, each beside what chance alone would show.

The worst of several groups is worse than the rest even where all are alike: the largest of noise
is positive. So the worst is held against relabelled data, and tests are corrected for their number.
"""

import math
from typing import Any

import numpy as np
from scipy import special

_DRAWS = 500  # of labels, and of images with replacement


def wilson(hits: np.ndarray, count: int, level: float = 0.95) -> np.ndarray:
    """Wilson's interval (1927) for proportions, `[..., 2]`; within [0, 1], also at its ends."""
    z = special.ndtri(0.5 + level / 2.0)
    p = np.asarray(hits, np.float64) / count
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    return np.stack([middle - half, middle + half], -1).clip(0.0, 1.0)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values corrected for their number (Holm 1979), in the order they came in."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = steps.clip(0.0, 1.0)
    return out


def welch(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """The difference of the means of two samples of unlike variances, and its p-value (two-sided).

    Returns:
        `difference` (mean of `a` less that of `b`), `standard_error` and `p`.
    """
    parts = np.array([v.var(ddof=1) / len(v) for v in (a, b)])
    error = math.sqrt(parts.sum())
    difference = float(a.mean() - b.mean())
    if not error:
        return {"difference": difference, "standard_error": 0.0, "p": float(difference == 0.0)}
    freedom = parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum()
    p = 2.0 * special.stdtr(freedom, -abs(difference) / error)
    return {"difference": difference, "standard_error": error, "p": float(p)}


def _excess(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The mean of each group less the mean of the rest, `[groups]`; `member` is `[N, groups]`."""
    count, total = member.sum(0), values @ member
    return total / count - (values.sum() - total) / (len(values) - count)


def _means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of values drawn with replacement, `[draws]`."""
    return np.array([values[rng.integers(0, len(values), len(values))].mean()
                     for _ in range(_DRAWS)])  # fmt: skip


def bits(values: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, Any] | None:
    """Bits/dim of each class, and the worst class against the rest.

    Args:
        values: bits/dim of images, `[N]`.
        labels: their classes, `[N]`.
        seed: of the draws behind `null` and `interval`.

    Returns:
        `classes`, a record for each with at least two images (Welch's test against the rest, with
        Holm's correction); `worst`, the class with most bits over the rest, with a bootstrap
        `interval` of 95% (the class stays the same), and `null`: the mean and the 95% quantile of
        the worst excess where labels are dealt anew. None with fewer than two such classes.
    """
    groups = np.array([g for g in np.unique(labels) if np.sum(labels == g) > 1])
    kept = np.isin(labels, groups)
    values, labels = np.asarray(values, np.float64)[kept], np.asarray(labels)[kept]
    if len(groups) < 2:
        return None
    tests = [welch(values[labels == g], values[labels != g]) for g in groups]
    corrected = holm(np.array([t["p"] for t in tests]))
    rows = []
    for g, test, p in zip(groups, tests, corrected, strict=True):
        own = values[labels == g]
        rows.append({
            "class": int(g), "images": len(own), "bits_per_dim": float(own.mean()),
            "standard_error": float(own.std(ddof=1) / math.sqrt(len(own))),
            "over_the_rest": test["difference"], "its_standard_error": test["standard_error"],
            "holm_p": float(p),
        })  # fmt: skip
    worst = int(np.argmax([r["over_the_rest"] for r in rows]))
    rng = np.random.default_rng(seed)
    member = (labels[:, None] == groups).astype(np.float64)
    null = [_excess(rng.permutation(values), member).max() for _ in range(_DRAWS)]
    inside = labels == groups[worst]
    drawn = _means(values[inside], rng) - _means(values[~inside], rng)
    return {
        "classes": rows,
        "worst": {
            **rows[worst],
            "interval": [float(q) for q in np.quantile(drawn, (0.025, 0.975))],
            "null": {"mean": float(np.mean(null)), "quantile_95": float(np.quantile(null, 0.95))},
        },
    }


def confusion(guess: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """What a judge says of each class: `[said, true]`, columns that add up to 1 (or to 0)."""
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (guess, truth), 1.0)
    return counts / np.maximum(counts.sum(0), 1.0)


def corrected(said: np.ndarray, judge: np.ndarray) -> np.ndarray | None:
    """Shares of classes, from what a judge said of them and how it errs.

    Args:
        said: shares of the judge's answers, `[K]`.
        judge: from `confusion`, on images whose classes are known.

    Returns:
        The shares whose answers these would be; some may be negative by chance. None if the judge
        cannot tell some classes apart.
    """
    if not np.all(judge.sum(0) > 0.0) or np.linalg.cond(judge) > 100.0:
        return None
    return np.linalg.solve(judge, said)


def shares(
    guess: np.ndarray, data: np.ndarray, judge: np.ndarray, tested: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """The classes of samples, as a judge sees them, against those of the data.

    Args:
        guess: the judge's answers about the samples, `[N]`.
        data: classes of the data, `[M]`.
        judge: from `confusion`.
        tested: images of each class that it was made of, `[K]`.
        seed: of the resampling of samples and judge.

    Returns:
        `classes`, each with its `share`, `interval` (Wilson, 95%), `of_data`, and, of a judge whose
        errors can be undone, `corrected` with `corrected_standard_error`; `chi2_p` of the shares
        as the judge says them, against those that it would say of the data; and `least`, the class
        of the data with the smallest `ratio` of the same two shares, beside `null`: the mean and
        the 5% quantile of the smallest ratio of samples that are like the data. Both know the
        judge's errors only as well as its test does.
    """
    count, k = len(guess), len(judge)
    hits = np.bincount(guess, minlength=k)
    expected = np.bincount(data, minlength=k) / len(data)
    undone = corrected(hits / count, judge)
    rows = [
        {"class": i, "share": float(hits[i] / count), "interval": wilson(hits[i], count).tolist(),
         "of_data": float(expected[i])}
        for i in range(k)
    ]  # fmt: skip
    if undone is not None:
        spread = _spread(hits / count, count, judge, tested, seed)
        for row, value, error in zip(rows, undone, spread, strict=True):
            row |= {"corrected": float(value), "corrected_standard_error": float(error)}
    beliefs = _beliefs(judge * tested)
    would = (beliefs / beliefs.sum(0)) @ expected
    alike = _alike(count, beliefs, expected, seed)
    further = _chi2(alike, count * would) >= _chi2(hits, count * would) * (1.0 - 1e-9)
    known = np.flatnonzero(expected)
    ratios = (hits / count / would)[known]
    null = (alike / count / would)[:, known].min(1)
    return {
        "classes": rows,
        "chi2_p": float((1 + further.sum()) / (1 + len(further))),
        "least": {
            **rows[known[ratios.argmin()]],
            "ratio": float(ratios.min()),
            "null": {"mean": float(null.mean()), "quantile_5": float(np.quantile(null, 0.05))},
        },
    }


def _chi2(hits: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.sum((hits - expected) ** 2 / expected, axis=-1)


def _beliefs(counts: np.ndarray) -> np.ndarray:
    """Counts `[said, true]` of a judge's test, and one image more of each class.

    It is as often right as the judge is of all classes, so that no error is thought impossible
    because it did not happen among a few images.
    """
    k = len(counts)
    right = (np.trace(counts) + 0.5) / (counts.sum() + 1.0)
    return counts + np.where(np.eye(k, dtype=bool), right, (1.0 - right) / max(k - 1, 1))


def _alike(count: int, beliefs: np.ndarray, expected: np.ndarray, seed: int) -> np.ndarray:
    """Answers of a judge about samples that are like the data, `[draws, K]`.

    Its errors are drawn anew each time, from what its test says of them: a Dirichlet law of each
    column of `beliefs`.
    """
    rng, draws = np.random.default_rng(seed), max(_DRAWS, min(20_000, 10**7 // beliefs.size))
    would = np.zeros((draws, len(expected)))
    for k in np.flatnonzero(expected):
        would += expected[k] * rng.dirichlet(beliefs[:, k], draws)
    return rng.multinomial(count, would / would.sum(1, keepdims=True))


def _spread(
    said: np.ndarray, count: int, judge: np.ndarray, tested: np.ndarray, seed: int
) -> np.ndarray:
    """Standard errors of corrected shares: samples and the judge's test drawn anew."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(100):
        columns = [rng.multinomial(max(round(n), 1), c / c.sum()) for n, c in
                   zip(tested, judge.T, strict=True)]  # fmt: skip
        again = np.stack(columns, 1).astype(np.float64)
        value = corrected(rng.multinomial(count, said) / count, again / again.sum(0))
        if value is not None:
            found.append(value)
    return np.std(found, axis=0, ddof=1) if len(found) > 1 else np.full(len(said), np.nan)
