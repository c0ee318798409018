"""Frechet distance between Gaussians (Dowson & Landau 1982; Heusel et al. 2017), in float64."""

from dataclasses import dataclass

import numpy as np

from diffusion_jax.errors import DataError


@dataclass(frozen=True)
class Moments:
    """First and second moments of features.

    Attributes:
        count: number of examples; 0 if unknown.
        mean: float64 `[F]`.
        covariance: float64 `[F, F]`, divided by `count - 1`.
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray


class Accumulator:
    """Moments of rows that arrive in batches; sums are centred on the first batch's mean."""

    def __init__(self) -> None:
        self._count, self._shift, self._sum, self._outer = 0, None, None, None

    def add(self, rows: np.ndarray) -> None:
        """Adds `[N, F]` rows."""
        rows = np.asarray(rows, np.float64)
        if self._shift is None:
            self._shift = rows.mean(0)
            self._sum = np.zeros(rows.shape[1])
            self._outer = np.zeros((rows.shape[1], rows.shape[1]))
        rows = rows - self._shift
        self._count += len(rows)
        self._sum += rows.sum(0)
        self._outer += rows.T @ rows

    def result(self) -> Moments:
        """The moments of all rows added.

        Raises:
            DataError: there are fewer than two rows, or a value is not finite.
        """
        if self._count < 2:
            raise DataError(f"a covariance needs at least two images, not {self._count}")
        mean = self._sum / self._count
        outer = self._outer - self._count * np.outer(mean, mean)
        if not np.all(np.isfinite(outer)):
            raise DataError("features are not finite; check the weights of the feature network")
        return Moments(self._count, self._shift + mean, outer / (self._count - 1))


def moments(rows: np.ndarray) -> Moments:
    """The moments of `[N, F]` rows."""
    sums = Accumulator()
    sums.add(rows)
    return sums.result()


def distance(a: Moments, b: Moments) -> float:
    """`|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`.

    With roots `C_a = A A^T`, `C_b = B B^T`, the trace of `(C_a C_b)^(1/2)` is the sum of the
    singular values of `A^T B`. This avoids the root of a matrix that is not symmetric.

    Returns:
        The squared distance, which is what papers report.
    """
    cross = np.linalg.svd(_root(a.covariance).T @ _root(b.covariance), compute_uv=False).sum()
    shift = np.sum((a.mean - b.mean) ** 2)
    squared = shift + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross
    return float(max(squared, 0.0))  # rounding can make it negative


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.clip(values, 0.0, None))
