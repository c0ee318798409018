"""The table of `benchmarks.synthetic`: accuracy by arm, paired with that of real images."""

import statistics
from typing import Any

import numpy as np
from scipy import special

from benchmarks import _common
from diffusion_jax.runtime.formatting import plus_minus

REAL = "real"  # the arm of real images


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p-value (McNemar 1947) of two classifiers on the same images.

    Args:
        a: correct answers of one classifier, bool `[N]`.
        b: correct answers of the other, bool `[N]`.
    """
    only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    least, n = min(only), sum(only)
    return float(min(2.0 * special.bdtr(least, n, 0.5), 1.0)) if n else 1.0


def show(rows: list[dict[str, Any]]) -> str:
    """The table, in markdown: means over classifiers, and tests against the real images."""
    by_arm: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    valid: dict[tuple[str, str], list[float]] = {}
    for r in rows:
        with np.load(r["npz"]) as f:
            by_arm.setdefault((r["arm"], r["guidance"]), {})[r["seed"]] = f["test"]
        valid.setdefault((r["arm"], r["guidance"]), []).append(r["valid"])
    real, lines = by_arm.get((REAL, ""), {}), []
    best = {arm: max((k for k in valid if k[0] == arm), key=lambda k: statistics.mean(valid[k]))
            for arm, _ in valid}  # fmt: skip
    for key, right in by_arm.items():
        line = {"trained on": key[0], "guidance": key[1], "classifiers": len(right)}
        line["valid"] = f"{statistics.mean(valid[key]):.4f}"
        line["chosen"] = "yes" if key[1] and best[key[0]] == key else ""
        lines.append(line | compared(real, right, key[0] == REAL))
    return _common.table(lines)


def compared(
    real: dict[int, np.ndarray], right: dict[int, np.ndarray], same: bool = False
) -> dict[str, str]:
    """The results of an arm on the test images.

    Args:
        real: correct answers of the classifiers trained on real images, by seed, bool `[N]`.
        right: correct answers of this arm's classifiers.
        same: whether this is the real arm itself.

    Returns:
        Accuracy with its error over classifiers and the binomial one over images; the difference
        to the real arm, paired over images, and McNemar's p of majority votes of the same seeds.
    """
    means = [float(a.mean()) for a in right.values()]
    mean, n = statistics.mean(means), len(next(iter(right.values())))
    error = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
    row = {
        "test": plus_minus(mean, error),
        "s.e. over images": f"{np.sqrt(mean * (1 - mean) / n):.4f}",
    }
    both = sorted(real.keys() & right.keys())
    if same or not both:
        return row
    ours, theirs = (np.mean([side[s] for s in both], axis=0) for side in (right, real))
    difference = ours - theirs
    error = difference.std(ddof=1) / np.sqrt(n)
    return row | {
        "minus real": plus_minus(float(difference.mean()), float(error)),
        "McNemar p": f"{mcnemar(ours > 0.5, theirs > 0.5):.3g}",
    }
