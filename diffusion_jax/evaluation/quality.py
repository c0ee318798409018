"""Metrics of sample quality: each compares features of samples with a reference."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.evaluation import frechet, kid, neighbours
from diffusion_jax.evaluation.statistics import Reference


def check_count(
    metrics: tuple[str, ...],
    count: int,
    size: int,
    shape: tuple[int, ...] = (),
    known: int = 0,
    many: str = "images",
) -> None:
    """Raises DataError if there are too few images for a Frechet distance in this many features.

    Args:
        metrics: names of metrics.
        count: number of samples.
        size: number of features.
        shape: shape of an image, for the advice in the message.
        known: number of images in the reference; 0 if unknown.
        many: plural noun for the examples, for the message.
    """
    least = min(count, known or count)
    if "frechet" not in metrics or least > size:
        return
    # More samples do not help if the reference itself is too small.
    enough = not known or known > size
    more = f"draw more than {size} (--config.sample.num), " if enough else ""
    images = f"{count} {many}" if enough else f"the reference's {known} {many}"
    raise DataError(
        f"{images} have no full covariance in {size} features: {more}choose smaller features "
        f"(--config.quality.features='{_coarse(shape, least)}' or a classifier's), or leave "
        "frechet out of --config.quality.metrics"
    )


def check_rows(
    metrics: tuple[str, ...], count: int, rows: int, k: int, limit: int, many: str = "images"
) -> None:
    """Raises DataError if a metric that compares pairs of rows has too few on one side.

    Args:
        metrics: names of metrics.
        count: number of samples.
        rows: number of rows kept in the reference.
        k: which neighbour sets the radius in precision, recall, density and coverage.
        limit: maximum number of rows on each side where all pairs are compared.
        many: plural noun for the examples, for the message.
    """
    needed = {"kid": kid.LEAST, "coverage": k + 1}
    for name in (n for n in metrics if n in needed):
        least, most = needed[name], limit if name == "coverage" else rows
        if min(count, rows, most) >= least:
            continue
        what = f"quality.metrics: {name} needs {least} {many} on each side"
        what += f" (quality.k={k})" if name == "coverage" else ""
        if count < least:
            found = f"{count} samples: draw more (--config.sample.num)"
        else:
            found = (
                f"{min(rows, most)} rows of the reference: keep more (--config.quality.rows), use "
                "a larger reference"
            )
        raise DataError(f"{what}; there are {found}, or leave {name} out")


def _coarse(shape: tuple[int, ...], count: int) -> str:
    """The finest `pixels(...)` with fewer than `count` features."""
    if len(shape) < 3:
        return "pixels(size=..)"
    height, width = shape[-3:-1]
    channels = shape[-1] * math.prod(shape[:-3])
    sizes = [n for n in range(1, math.gcd(height, width) + 1) if math.gcd(height, width) % n == 0]
    return f"pixels(size={max([n for n in sizes if n * n * channels < count], default=1)})"


def _frechet(rows: np.ndarray, reference: Reference, **_: Any) -> dict[str, Any]:
    check_count(("frechet",), *rows.shape)
    return {"value": frechet.distance(frechet.moments(rows), reference.moments)}


def _kid(rows: np.ndarray, reference: Reference, subset: int, seed: int, **_: Any) -> dict:
    return kid.kernel_distance(rows, reference.rows, subset, seed)


def _coverage(rows: np.ndarray, reference: Reference, k: int, limit: int, **_: Any) -> dict:
    # Both sides get equally many rows: recall grows with the samples, precision with the reference.
    count = min(len(rows), len(reference.rows), limit)
    return neighbours.coverage(rows[:count], reference.rows[:count], k)


# Name in `config.quality.metrics` -> function of (rows, reference, **settings).
METRICS: dict[str, Callable[..., dict[str, Any]]] = {
    "frechet": _frechet,
    "kid": _kid,
    "coverage": _coverage,
}
_FROM_MOMENTS = ("frechet",)


def check(metrics: tuple[str, ...], reference: Reference | None = None) -> None:
    """Checks that the metrics exist, and that the reference suffices for them.

    Args:
        metrics: names of metrics.
        reference: the reference, if it has been read.

    Raises:
        ConfigError: a metric is unknown, or needs rows that the reference does not hold.
    """
    for name in metrics:
        if name not in METRICS:
            raise ConfigError(
                f"quality.metrics: {name!r} does not exist; choose from {', '.join(METRICS)}"
            )
        if reference is not None and not len(reference.rows) and name not in _FROM_MOMENTS:
            raise ConfigError(
                f"quality.metrics: {name} needs rows, but the reference holds only moments; set "
                "quality.metrics=('frechet',), or write the reference with --mode=statistics"
            )


def measure(
    rows: np.ndarray,
    reference: Reference,
    metrics: tuple[str, ...],
    k: int = 3,
    limit: int = 10_000,
    subset: int = 1000,
    seed: int = 0,
    strict: bool = True,
) -> dict[str, Any]:
    """All metrics of one set of samples.

    Args:
        rows: features of the samples, `[N, F]`.
        reference: statistics that the samples are compared with.
        metrics: names of metrics, from `METRICS`.
        k: which neighbour sets the radius in precision, recall, density and coverage.
        limit: maximum number of rows on each side where all pairs are compared.
        subset: rows in a subset of the kernel distance.
        seed: seed for the choice of rows and subsets.
        strict: raise if there are too few samples for a metric; otherwise its entry says why it is
            missing.

    Returns:
        Results by name of the metric, and the number of `images`.

    Raises:
        DataError: there are too few samples for a metric, and `strict` is True.
    """
    order = np.random.default_rng(seed).permutation(len(rows))  # samples are sorted by class
    rows = rows[order]
    settings = {"k": k, "limit": limit, "subset": subset, "seed": seed}
    results: dict[str, Any] = {}
    for name in metrics:
        try:
            results[name] = METRICS[name](rows, reference, **settings)
        except DataError as e:
            if strict:
                raise
            results[name] = {"value": None, "reason": str(e)}
    return {"images": len(rows), **results}


def halves(reference: Reference) -> dict[str, Any] | None:
    """Frechet distance between two halves of the reference's rows.

    Returns:
        `frechet` and the number of `images` in each half; None if there are too few rows.
    """
    half = len(reference.rows) // 2
    if half <= reference.size:
        return None
    parts = reference.rows[:half], reference.rows[half : 2 * half]
    return {"images": half, "frechet": frechet.distance(*map(frechet.moments, parts))}
