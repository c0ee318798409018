"""Whether a model's bits tell the images that it was trained on from others of the same kind.

A score is bits/dim per image, or the part of it that one band of noise levels contributes; members
should have fewer. Nothing here trains an attack: these are the tests that need no second model.
"""

import math
from typing import Any

import numpy as np
from scipy import special

from diffusion_jax.likelihood import ood
from diffusion_jax.likelihood.bpd import Records

LEAST = 100  # images on either side, for any of this to mean something
_STRICT, _LOOSE = 0.01, 0.05  # rates of false positives, with and without enough strangers
_NEEDED = 1000  # strangers, for the strict one: ten images above the threshold


def bands(records: Records, count: int) -> np.ndarray:
    """Bits/dim per image in bands of noise levels, `[N, bands]`; they add up to the diffusion term.

    The draws of an image are stratified alike for all images, so a band is a run of strata: each
    image has as many draws in it.

    Args:
        records: from `bpd.measure`.
        count: of bands, at most one for each stratum.
    """
    draws = records.diffusion.shape[1]
    strata = draws // 2
    both = records.diffusion.reshape(-1, 2, strata).sum(1) / draws
    parts = np.array_split(both, min(count, strata), axis=1)
    return np.stack([p.sum(1) for p in parts], axis=1) / (records.dims * math.log(2.0))


def band_edges(strata: int, count: int) -> np.ndarray:
    """Where in [0, 1] the bands of `bands` begin and end, `[bands + 1]`."""
    sizes = [len(part) for part in np.array_split(np.arange(strata), min(count, strata))]
    return np.concatenate([[0], np.cumsum(sizes)]) / strata


def gap(members: np.ndarray, strangers: np.ndarray) -> dict[str, float]:
    """How many more bits/dim strangers cost: the mean difference, its standard error, and z.

    Args:
        members: bits/dim of images trained on, `[N]`.
        strangers: bits/dim of others, `[M]`.
    """
    difference = float(strangers.mean() - members.mean())
    error = math.sqrt(sum(a.var(ddof=1) / len(a) for a in (members, strangers)))
    return {
        "bits_per_dim": difference,
        "standard_error": error,
        "z": difference / error if error else math.copysign(math.inf, difference),
    }


def auroc(members: np.ndarray, strangers: np.ndarray) -> dict[str, float]:
    """The probability that a stranger costs more bits than a member, with two standard errors.

    Returns:
        `auroc`; its `standard_error` (DeLong et al. 1988); and `null_standard_error`, how far it
        strays from 0.5 where the score says nothing (Mann & Whitney 1947).
    """
    n, m = len(members), len(strangers)
    null = math.sqrt((n + m + 1) / (12.0 * n * m))
    return {**ood.auroc(members, strangers), "null_standard_error": null}


def clopper_pearson(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """An interval for a proportion that covers it at least so often, whatever it is."""
    tail = (1.0 - level) / 2.0
    low = special.betaincinv(hits, count - hits + 1, tail) if hits else 0.0
    high = special.betaincinv(hits + 1, count - hits, 1.0 - tail) if hits < count else 1.0
    return float(low), float(high)


def found(members: np.ndarray, strangers: np.ndarray) -> dict[str, Any]:
    """The share of members that are found where hardly any stranger is taken for one.

    The threshold is the score of that stranger that leaves a share of at most 1% below it; with
    fewer than a thousand strangers that would hang on a handful of images, and it is 5%.

    Returns:
        `true_positive_rate` with its `interval` (Clopper-Pearson, 95%, at that threshold), the
        `false_positive_rate`, and what 1% `needs`, if it could not be had.
    """
    enough = len(strangers) >= _NEEDED
    rate = _STRICT if enough else _LOOSE
    threshold = np.sort(strangers)[int(rate * len(strangers))]
    hits = int(np.sum(members < threshold))
    return {
        "false_positive_rate": rate,
        "true_positive_rate": hits / len(members),
        "interval": list(clopper_pearson(hits, len(members))),
        "strangers": len(strangers),
        "needs": None if enough else _NEEDED,
    }


def best_band(members: np.ndarray, strangers: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """The band that tells most, chosen on one half of the images and measured on the other.

    Args:
        members: from `bands`, of images trained on, `[N, bands]`.
        strangers: of others, `[M, bands]`.
        seed: of the halves.

    Returns:
        `band`, its number, and what `auroc` says of it on the half it was not chosen on.
    """
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(len(a)), 2) for a in (members, strangers)]
    (mine, mine_kept), (others, others_kept) = halves
    scores = [
        ood.auroc(members[mine, b], strangers[others, b])["auroc"] for b in range(members.shape[1])
    ]
    band = int(np.argmax(scores))
    return {"band": band, **auroc(members[mine_kept, band], strangers[others_kept, band])}


def by_band(
    members: np.ndarray, strangers: np.ndarray, gammas: np.ndarray
) -> list[dict[str, float]]:
    """The gap in every band, from the least noise; the gaps add up to that of the diffusion term.

    Args:
        members: from `bands`.
        strangers: likewise.
        gammas: where bands begin and end, `[bands + 1]`.
    """
    return [
        {"from": float(gammas[b]), "to": float(gammas[b + 1]),
         **gap(members[:, b], strangers[:, b])}
        for b in range(members.shape[1])
    ]  # fmt: skip
