"""Results per class, each with the value that chance alone would give.

The worst of several equal classes looks worse than the rest, because the maximum of noise is
positive. So the worst class is compared with permuted labels, and p-values are corrected for the
number of tests.
"""

import math
from typing import Any

import numpy as np
from scipy import special

_DRAWS = 500  # permutations of labels, and bootstrap samples
_LEVEL = 0.95  # of Wilson's intervals


def wilson(hits: np.ndarray, count: int) -> np.ndarray:
    """Wilson's 95% interval (1927) for proportions, `[..., 2]`, within [0, 1]."""
    z = special.ndtri(0.5 + _LEVEL / 2.0)
    p = np.asarray(hits, np.float64) / count
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    return np.stack([middle - half, middle + half], -1).clip(0.0, 1.0)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values corrected for the number of tests (Holm 1979), in the order given."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = steps.clip(0.0, 1.0)
    return out


def welch(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Welch's two-sided test for a difference between two means.

    Returns:
        `difference` (mean of `a` minus mean of `b`), `standard_error` and `p`.
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
    """The mean of each group minus the mean of the rest, `[groups]`; `member` is `[N, groups]`."""
    count, total = member.sum(0), values @ member
    return total / count - (values.sum() - total) / (len(values) - count)


def _means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bootstrap means, `[draws]`."""
    return np.array([values[rng.integers(0, len(values), len(values))].mean()
                     for _ in range(_DRAWS)])  # fmt: skip


def bits(values: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, Any] | None:
    """Bits/dim of each class, and the worst class compared with the rest.

    Classes with a single image are left out.

    Args:
        values: bits/dim of images, `[N]`.
        labels: classes of the images, `[N]`.
        seed: seed for the draws behind `null` and `interval`.

    Returns:
        `classes`, a record for each class (Welch's test against the rest, with Holm's correction);
        `worst`, the record of the class with the largest excess over the rest, with a 95% bootstrap
        `interval` (for this class) and `null`, the mean and the 95% quantile of the largest excess
        when labels are permuted. None if there are fewer than two classes.
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
        group = values[labels == g]
        rows.append({
            "class": int(g), "images": len(group), "bits_per_dim": float(group.mean()),
            "standard_error": float(group.std(ddof=1) / math.sqrt(len(group))),
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
    """Confusion matrix of a judge, `[answer, true class]`.

    Columns add up to 1, or to 0 for classes without images.
    """
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (guess, truth), 1.0)
    return counts / np.maximum(counts.sum(0), 1.0)


def corrected(answers: np.ndarray, judge: np.ndarray) -> np.ndarray | None:
    """Shares of classes, corrected for a judge's errors.

    Args:
        answers: shares of the judge's answers, `[K]`.
        judge: confusion matrix of the judge on images whose classes are known.

    Returns:
        The shares of true classes that lead to these answers; some may be negative by chance. None
        if the judge cannot distinguish some classes.
    """
    if not np.all(judge.sum(0) > 0.0) or np.linalg.cond(judge) > 100.0:
        return None
    return np.linalg.solve(judge, answers)


def shares(
    guess: np.ndarray, data: np.ndarray, judge: np.ndarray, tested: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """Compares the classes of samples, as a judge sees them, with the classes of the data.

    The null distribution of `chi2_p` and `null` accounts for errors of the judge, and for how well
    its test determines them.

    Args:
        guess: the judge's answers for the samples, `[N]`.
        data: classes of the data, `[M]`.
        judge: confusion matrix of the judge.
        tested: number of images of each class behind the confusion matrix, `[K]`.
        seed: seed for the resampling of samples and judge.

    Returns:
        `classes`, each with its `share`, `interval` (Wilson, 95%), `of_data` and, if the judge's
        errors can be inverted, `corrected` with `corrected_standard_error`; `chi2_p`, the p-value
        of the judge's answers for the samples against those expected for the data; and `least`,
        the class with the smallest `ratio` of the two, with `null`, the mean and the 5% quantile of
        the smallest ratio for samples distributed like the data.
    """
    count, k = len(guess), len(judge)
    hits = np.bincount(guess, minlength=k)
    data_shares = np.bincount(data, minlength=k) / len(data)
    corrected_shares = corrected(hits / count, judge)
    rows = [
        {"class": i, "share": float(hits[i] / count), "interval": wilson(hits[i], count).tolist(),
         "of_data": float(data_shares[i])}
        for i in range(k)
    ]  # fmt: skip
    if corrected_shares is not None:
        errors = _standard_errors(hits / count, count, judge, tested, seed)
        for row, value, error in zip(rows, corrected_shares, errors, strict=True):
            row |= {"corrected": float(value), "corrected_standard_error": float(error)}
    posterior = _posterior_counts(judge * tested)
    expected_answers = (posterior / posterior.sum(0)) @ data_shares
    null_answers = _null_answers(count, posterior, data_shares, seed)
    expected = count * expected_answers
    as_extreme = _chi2(null_answers, expected) >= _chi2(hits, expected) * (1.0 - 1e-9)
    present = np.flatnonzero(data_shares)
    ratios = (hits / count / expected_answers)[present]
    null = (null_answers / count / expected_answers)[:, present].min(1)
    return {
        "classes": rows,
        "chi2_p": float((1 + as_extreme.sum()) / (1 + len(as_extreme))),
        "least": {
            **rows[present[ratios.argmin()]],
            "ratio": float(ratios.min()),
            "null": {"mean": float(null.mean()), "quantile_5": float(np.quantile(null, 0.05))},
        },
    }


def _chi2(hits: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.sum((hits - expected) ** 2 / expected, axis=-1)


def _posterior_counts(counts: np.ndarray) -> np.ndarray:
    """Confusion counts `[answer, true]` with one pseudo-observation added for each class.

    It is split according to the judge's overall accuracy, so that an error that did not occur among
    few images is not taken to be impossible.
    """
    k = len(counts)
    right = (np.trace(counts) + 0.5) / (counts.sum() + 1.0)
    return counts + np.where(np.eye(k, dtype=bool), right, (1.0 - right) / max(k - 1, 1))


def _null_answers(
    count: int, posterior: np.ndarray, data_shares: np.ndarray, seed: int
) -> np.ndarray:
    """Counts of a judge's answers for samples distributed like the data, `[draws, K]`.

    Each draw samples the judge's errors from a Dirichlet distribution with the columns of
    `posterior` as parameters.
    """
    rng, draws = np.random.default_rng(seed), max(_DRAWS, min(20_000, 10**7 // posterior.size))
    answers = np.zeros((draws, len(data_shares)))
    for k in np.flatnonzero(data_shares):
        answers += data_shares[k] * rng.dirichlet(posterior[:, k], draws)
    return rng.multinomial(count, answers / answers.sum(1, keepdims=True))


def _standard_errors(
    answers: np.ndarray, count: int, judge: np.ndarray, tested: np.ndarray, seed: int
) -> np.ndarray:
    """Standard errors of corrected shares, by resampling both the samples and the judge's test."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(100):
        columns = [rng.multinomial(max(round(n), 1), c / c.sum()) for n, c in
                   zip(tested, judge.T, strict=True)]  # fmt: skip
        resampled = np.stack(columns, 1).astype(np.float64)
        value = corrected(rng.multinomial(count, answers) / count, resampled / resampled.sum(0))
        if value is not None:
            values.append(value)
    return np.std(values, axis=0, ddof=1) if len(values) > 1 else np.full(len(answers), np.nan)
