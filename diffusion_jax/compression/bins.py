"""Gaussians over bins, as integer counts that sum to 2^32, with which the stack codes latents.

A latent lies on an absolute grid: bin k is `[(k - 1/2) width, (k + 1/2) width)` and stands for its
centre. A *model* leaks: every bin of its finite range gets at least one count, so that every draw
of the posterior can be coded. A *posterior* must not leak, because it is sampled: with one count in
each of 10^5 bins, one draw in 10^4 would be noise from the whole range.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from diffusion_jax.compression.rans import PRECISION
from diffusion_jax.errors import CodecError

_TOTAL = 1 << PRECISION


class Grid(NamedTuple):
    """Bins numbered -half .. half; both fields are scalars, or have one entry per value.

    Attributes:
        width: width of a bin, positive.
        half: number of bins on either side of the one at 0.
    """

    width: np.ndarray
    half: np.ndarray

    def at(self, cols: slice) -> "Grid":
        """The grid of some of the values."""
        return Grid(_part(self.width, cols), _part(self.half, cols))


def _part(a: np.ndarray, cols: slice) -> np.ndarray:
    return a[:, cols] if np.ndim(a) else a


@dataclass(frozen=True)
class Binned:
    """A Gaussian on a grid.

    Attributes:
        mean: `[n, values]`, float64.
        std: scalar or `[n, values]`.
        grid: the bins.
        leak: whether every bin of the grid has at least one count.
    """

    mean: np.ndarray
    std: np.ndarray
    grid: Grid
    leak: bool

    def log_density(self, k: np.ndarray) -> np.ndarray:
        """Log-density at the bins' centres, nats, summed per image, `[n]`."""
        z = (k * self.grid.width - self.mean) / self.std
        log_p = -0.5 * (np.square(z) + np.log(2.0 * np.pi)) - np.log(self.std)
        return log_p.sum(axis=1)

    def interval(self, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The intervals of bins `k` within [0, 2^32).

        Args:
            k: int64 `[n, values]`.

        Returns:
            Their starts and widths, uint64 `[n, values]` each.

        Raises:
            CodecError: a bin is outside the grid, or has no probability.
        """
        if self.leak and np.any(np.abs(k) > self.grid.half):
            raise CodecError(
                "a latent is outside the codec's grid; do the weights contain non-finite values?"
            )
        start = self._below(k)
        width = self._below(k + 1) - start
        if width.size and int(width.min()) < 1:
            raise CodecError("a bin without probability: the compressed data do not fit the model")
        return start, width

    def find(self, u: np.ndarray, cols: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The bins whose intervals contain `u`, for `Stack.pop`.

        Args:
            u: uint64 below 2^32, `[n, columns]`.
            cols: the values to which the columns belong.

        Returns:
            `(k, start, width)`, `[n, columns]` each.
        """
        part = Binned(_part(self.mean, cols), _part(self.std, cols), self.grid.at(cols), self.leak)
        k = part._guess(u)
        low, high = part._below(k), part._below(k + 1)
        wrong = (u < low) | (u >= high)
        if wrong.any():
            k = np.where(wrong, part._search(u, k), k)
            low, high = part._below(k), part._below(k + 1)
        return k, low, high - low

    def _below(self, k: np.ndarray) -> np.ndarray:
        """Counts of all bins before `k`, uint64; increasing in `k`."""
        mass = ndtr(((k - 0.5) * self.grid.width - self.mean) / self.std)
        if not self.leak:
            return np.rint(mass * _TOTAL).astype(np.uint64)
        half = self.grid.half
        mass = np.where(k <= -half, 0.0, np.where(k > half, 1.0, mass))
        counts = np.rint(mass * (_TOTAL - (2 * half + 1)))
        return (counts + np.maximum(k + half, 0)).astype(np.uint64)

    def _guess(self, u: np.ndarray) -> np.ndarray:
        """An estimate of the bin of `u`, almost always exact."""
        u = u.astype(np.float64) + 0.5
        if not self.leak:
            z = self.mean + self.std * ndtri(u / _TOTAL)
            return np.floor(z / self.grid.width + 0.5).astype(np.int64)
        half, width = self.grid.half, self.grid.width
        total = _TOTAL - (2 * half + 1)
        k = np.clip(np.rint(self.mean / width), -half, half)
        for _ in range(2):  # the counts added below a bin depend on the bin: iterate
            p = np.clip((u - (k + half)) / total, 1e-12, 1.0 - 1e-12)
            k = np.clip(np.floor((self.mean + self.std * ndtri(p)) / width + 0.5), -half, half)
        return k.astype(np.int64)

    def _search(self, u: np.ndarray, k: np.ndarray) -> np.ndarray:
        """The bin of `u` by bisection around `k`: always exact, rarely needed."""
        low, high, step = k.copy(), k + 1, 1
        while (above := self._below(low) > u).any():
            low = np.where(above, low - step, low)
            step *= 2
        step = 1
        while (below := self._below(high) <= u).any():
            high = np.where(below, high + step, high)
            step *= 2
        while (high - low > 1).any():
            mid = (low + high) // 2
            right = self._below(mid) <= u
            low, high = np.where(right, mid, low), np.where(right, high, mid)
        return low
