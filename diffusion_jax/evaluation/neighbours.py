"""Nearest neighbours in feature space: precision, recall, density, coverage, memorisation."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from diffusion_jax.errors import DataError
from diffusion_jax.runtime.progress import progress

_BLOCK = 2048
_TIE = 1e-6  # relative difference below which distances are equal, far above rounding errors


def blocks(x: np.ndarray, y: np.ndarray, label: str = "") -> Iterator[tuple[slice, np.ndarray]]:
    """Squared Euclidean distances between rows, float64, a block of rows of `x` at a time.

    Args:
        x: `[N, F]`.
        y: `[M, F]`.
        label: label of the progress bar; empty for no bar.

    Yields:
        A slice of rows and their distances, `[rows, M]`.
    """
    # Centring reduces the cancellation in |a|^2 + |b|^2 - 2 a.b.
    centre = np.asarray(y[:_BLOCK], np.float64).mean(0)
    y = np.asarray(y, np.float64) - centre
    norms = np.sum(y**2, axis=1)
    with progress(label, len(x), show=bool(label) and len(x) > _BLOCK) as bar:
        for start in range(0, len(x), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(x)))
            block = np.asarray(x[rows], np.float64) - centre
            apart = np.sum(block**2, axis=1)[:, None] + norms - 2.0 * (block @ y.T)
            # Distances below the rounding error become 0, so that copies are at distance 0.
            apart[apart < _TIE**2 * (np.sum(block**2, axis=1)[:, None] + norms)] = 0.0
            yield rows, apart
            bar.at(rows.stop)


def radii(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row, `[N]`."""
    out = np.empty(len(x))
    for rows, apart in blocks(x, x, "neighbourhoods"):
        local = np.arange(rows.start, rows.stop)
        apart[local - rows.start, local] = np.inf  # not its own neighbour
        out[rows] = np.partition(apart, k - 1, axis=1)[:, k - 1]
    return out


def coverage(samples: np.ndarray, reference: np.ndarray, k: int = 3) -> dict[str, Any]:
    """Precision, recall, density and coverage.

    Precision and recall follow Kynkaanniemi et al. (2019), equations 1-2: precision is the share of
    samples inside a ball around a real image that reaches the image's k-th neighbour, and recall
    swaps the two sides. Density and coverage follow Naeem et al. (2020), equations 5-6.

    Args:
        samples: features, `[N, F]`.
        reference: features of real images, `[M, F]`; use M = N, because the values depend on it.
        k: which neighbour sets the radius of a ball.

    Returns:
        `precision`, `recall`, `density`, `coverage`, and `k` and `rows` for the record.

    Raises:
        DataError: one side has `k` rows or fewer.
    """
    least = min(len(samples), len(reference))
    if k < 1 or least <= k:
        raise DataError(f"k={k} neighbours need k >= 1 and more than k images; there are {least}")
    # A neighbour exactly on the boundary, frequent in data with few grey levels, is inside.
    real, fake = (radii(a, k) * (1.0 + _TIE) for a in (reference, samples))
    precision, density = np.zeros(len(samples)), np.zeros(len(samples))
    recall, covered = np.zeros(len(reference), bool), np.zeros(len(reference), bool)
    for rows, apart in blocks(samples, reference, "coverage"):
        inside = apart <= real
        precision[rows] = inside.any(1)
        density[rows] = inside.sum(1) / k
        covered |= inside.any(0)
        recall |= (apart <= fake[rows, None]).any(0)
    return {
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "density": float(density.mean()),
        "coverage": float(covered.mean()),
        "k": k,
        "rows": {"samples": len(samples), "reference": len(reference)},
    }


def gathered(batches: Iterable[np.ndarray], rows: int = _BLOCK) -> Iterator[np.ndarray]:
    """Joins batches `[N_i, F]` until they have at least `rows` rows.

    Yields:
        The joined batches; the last one may be smaller.
    """
    held: list[np.ndarray] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= rows:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


class Nearest:
    """The nearest training row of each query, for training rows that arrive in batches.

    `distance` and `index` describe the nearest row; `second` is the distance to the next nearest.

    Args:
        queries: features, `[N, F]`.
    """

    def __init__(self, queries: np.ndarray):
        self._queries, self._seen = queries, 0
        self.distance = np.full(len(queries), np.inf)
        self.second = np.full(len(queries), np.inf)
        self.index = np.full(len(queries), -1)

    def add(self, train: np.ndarray) -> None:
        """Adds training rows, `[M, F]`."""
        for rows, apart in blocks(self._queries, train):
            best = apart.argmin(1)
            closest = self._exact(rows, train[best])
            candidates = [self.distance[rows], self.second[rows], closest]
            if len(train) > 1:
                apart[np.arange(len(best)), best] = np.inf
                candidates.append(self._exact(rows, train[apart.argmin(1)]))
            closer = closest < self.distance[rows]
            self.index[rows] = np.where(closer, best + self._seen, self.index[rows])
            self.distance[rows], self.second[rows] = np.sort(candidates, axis=0)[:2]
        self._seen += len(train)

    def _exact(self, rows: slice, others: np.ndarray) -> np.ndarray:
        """Distances computed from differences, so that copies are exactly at 0."""
        apart = np.asarray(self._queries[rows], np.float64) - others
        return np.sqrt(np.sum(apart**2, axis=1))


def memorisation(samples: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """Compares the distances to training images of samples and of held-out images.

    Args:
        samples: distance of each sample to its nearest training image, `[N]`.
        held_out: the same for real images that were not trained on, `[M]`.

    Returns:
        `ratio` of the medians (1 if samples are as novel as held-out images, 0 for copies);
        `suspicious`, the share of samples below the 1% quantile of the held-out distances (0.01 by
        chance); `copies` and `held_out_copies`, the numbers at distance 0; and the medians.
    """
    medians = float(np.median(samples)), float(np.median(held_out))
    threshold = float(np.quantile(held_out, 0.01))
    return {
        "ratio": medians[0] / medians[1] if medians[1] else None,
        "suspicious": float(np.mean(samples < threshold)),
        "copies": int(np.sum(samples == 0.0)),
        "held_out_copies": int(np.sum(held_out == 0.0)),
        "median_distance": medians[0],
        "median_distance_held_out": medians[1],
        "rows": {"samples": len(samples), "held_out": len(held_out)},
    }


def copies(samples: Nearest, held_out: Nearest) -> dict[str, Any]:
    """`memorisation`, and how many samples are much nearer to one training image than to the next.

    Args:
        samples: neighbours of the samples, after all training rows were added.
        held_out: the same for real images that were not trained on.

    Returns:
        The values of `memorisation`; `singled_out` and `held_out_singled_out`, the numbers whose
        nearest training image is at less than a third of the distance of the next, Gu et al.
        (2023); and `nearer_than_all`, the number of samples nearer to a training image than every
        held-out image.
    """

    def singled(nearest: Nearest) -> int:
        return int(np.sum((nearest.distance == 0.0) | (3.0 * nearest.distance < nearest.second)))

    return {
        **memorisation(samples.distance, held_out.distance),
        "singled_out": singled(samples),
        "held_out_singled_out": singled(held_out),
        "nearer_than_all": int(np.sum(samples.distance < held_out.distance.min())),
    }
