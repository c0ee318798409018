"""Membership inference: whether bits/dim distinguish training images from held-out images.

The score of an image is its bits/dim, or the part that one band of noise levels contributes.
Members (images trained on) should score lower. These tests need neither a second model nor a
trained attack.
"""

import math
from typing import Any

import numpy as np
from scipy import special

from diffusion_jax.likelihood import ood
from diffusion_jax.likelihood.bpd import Records

LEAST = 100  # images needed on each side for the tests to be meaningful
_STRICT, _LOOSE = 0.01, 0.05  # false positive rates, with and without enough held-out images
_NEEDED = 1000  # held-out images for the strict rate: ten of them lie below the threshold
_LEVEL = 0.95  # of intervals


def bands(records: Records, count: int) -> np.ndarray:
    """Bits/dim per image in bands of noise levels, `[N, bands]`; they add up to the diffusion term.

    A band is a range of the strata from which noise levels are drawn. The strata are the same for
    all images, so every image has equally many draws in a band.

    Args:
        records: result of `bpd.measure`.
        count: number of bands, at most one for each stratum.
    """
    draws = records.diffusion.shape[1]
    strata = draws // 2
    both = records.diffusion.reshape(-1, 2, strata).sum(1) / draws
    parts = np.array_split(both, min(count, strata), axis=1)
    return np.stack([p.sum(1) for p in parts], axis=1) / (records.dims * math.log(2.0))


def band_edges(strata: int, count: int) -> np.ndarray:
    """Edges in [0, 1] of the bands of `bands`, `[bands + 1]`."""
    sizes = [len(part) for part in np.array_split(np.arange(strata), min(count, strata))]
    return np.concatenate([[0], np.cumsum(sizes)]) / strata


def gap(members: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """How many more bits/dim held-out images cost: mean difference, standard error, and z.

    Args:
        members: bits/dim of images trained on, `[N]`.
        held_out: bits/dim of held-out images, `[M]`.
    """
    difference = float(held_out.mean() - members.mean())
    error = math.sqrt(sum(a.var(ddof=1) / len(a) for a in (members, held_out)))
    return {
        "bits_per_dim": difference,
        "standard_error": error,
        "z": difference / error if error else math.copysign(math.inf, difference),
    }


def auroc(members: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """The probability that a held-out image costs more bits than a member.

    Returns:
        `auroc`; its `standard_error` (DeLong et al. 1988); and `null_standard_error`, the standard
        error around 0.5 of a score without information (Mann & Whitney 1947).
    """
    n, m = len(members), len(held_out)
    null = math.sqrt((n + m + 1) / (12.0 * n * m))
    return {**ood.auroc(members, held_out), "null_standard_error": null}


def clopper_pearson(hits: int, count: int) -> tuple[float, float]:
    """A 95% interval for a proportion; its coverage is at least 95% for every proportion."""
    tail = (1.0 - _LEVEL) / 2.0
    low = special.betaincinv(hits, count - hits + 1, tail) if hits else 0.0
    high = special.betaincinv(hits + 1, count - hits, 1.0 - tail) if hits < count else 1.0
    return float(low), float(high)


def found(members: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """The share of members found at a low false positive rate.

    The threshold is the quantile of the held-out scores below which at most 1% of held-out images
    lie. With fewer than 1,000 held-out images that would depend on a handful of them, so the rate
    is 5%.

    Returns:
        `true_positive_rate` with its `interval` (Clopper-Pearson, 95%, at that threshold);
        `false_positive_rate`; `strangers`, the number of held-out images; and `needs`, how many a
        rate of 1% requires, None if there are enough.
    """
    enough = len(held_out) >= _NEEDED
    rate = _STRICT if enough else _LOOSE
    threshold = np.sort(held_out)[int(rate * len(held_out))]
    hits = int(np.sum(members < threshold))
    return {
        "false_positive_rate": rate,
        "true_positive_rate": hits / len(members),
        "interval": list(clopper_pearson(hits, len(members))),
        "strangers": len(held_out),
        "needs": None if enough else _NEEDED,
    }


def best_band(members: np.ndarray, held_out: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """The most informative band, chosen on one half of the images and measured on the other.

    Args:
        members: `bands` of images trained on, `[N, bands]`.
        held_out: `bands` of held-out images, `[M, bands]`.
        seed: seed for the division into halves.

    Returns:
        `band`, its index, and the values of `auroc` for this band on the second half.
    """
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(len(a)), 2) for a in (members, held_out)]
    (choose_m, measure_m), (choose_h, measure_h) = halves
    scores = [
        ood.auroc(members[choose_m, b], held_out[choose_h, b])["auroc"]
        for b in range(members.shape[1])
    ]
    band = int(np.argmax(scores))
    return {"band": band, **auroc(members[measure_m, band], held_out[measure_h, band])}


def by_band(
    members: np.ndarray, held_out: np.ndarray, gammas: np.ndarray
) -> list[dict[str, float]]:
    """The gap in every band, least noise first; the gaps add up to that of the diffusion term.

    Args:
        members: `bands` of images trained on, `[N, bands]`.
        held_out: `bands` of held-out images, `[M, bands]`.
        gammas: edges of the bands, `[bands + 1]`.
    """
    return [
        {"from": float(gammas[b]), "to": float(gammas[b + 1]),
         **gap(members[:, b], held_out[:, b])}
        for b in range(members.shape[1])
    ]  # fmt: skip
