"""Conversion between real vectors and levels, for priors over embeddings and their decoders.

Each value is standardised by its mean and standard deviation on the training images, and quantised
to 64 levels over +-3 standard deviations. The likelihood of such levels is finite, while a density
of vectors of unit length would be singular.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 64
SPAN = 3.0  # standard deviations covered by the levels, on each side
_LEAST = 1e-6  # smallest standard deviation, for values that are constant


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each value of a vector."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        """Number of values in a vector."""
        return len(self.mean)

    @property
    def length(self) -> float:
        """Root mean square length of the vectors."""
        return float(np.sqrt(np.square(self.mean).sum() + np.square(self.std).sum()))

    def standard(self, raw: np.ndarray) -> np.ndarray:
        """Standardises vectors `[N, D]`, float32."""
        return ((raw - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)

    def raw(self, standard: np.ndarray) -> np.ndarray:
        """The inverse of `standard`, float64."""
        return np.asarray(standard, np.float64) * np.asarray(self.std) + np.asarray(self.mean)

    def levels(self, raw: np.ndarray) -> np.ndarray:
        """Quantises vectors `[N, D]` to levels, uint8 `[N, 1, 1, D]`."""
        levels = np.floor((self.standard(raw) / SPAN + 1.0) * (LEVELS / 2))
        return np.clip(levels, 0, LEVELS - 1).astype(np.uint8)[:, None, None]


def measured(raw: np.ndarray) -> Scale:
    """The scale of vectors `[N, D]`, rounded to six digits because configurations contain it."""

    def short(values: np.ndarray) -> tuple[float, ...]:
        return tuple(float(f"{v:.6g}") for v in values)

    raw = np.asarray(raw, np.float64)
    return Scale(short(raw.mean(0)), short(np.maximum(raw.std(0), _LEAST)))


def standard_of(levels: np.ndarray) -> np.ndarray:
    """The centres of levels `[N, 1, 1, D]` in standard deviations, float32 `[N, D]`."""
    centre = (2.0 * np.asarray(levels, np.float64) + 1.0) / LEVELS - 1.0
    return (SPAN * centre).reshape(len(levels), -1).astype(np.float32)


def clipped(scale: Scale, raw: np.ndarray) -> float:
    """The share of values outside the range of the levels."""
    return float((np.abs(scale.standard(raw)) > SPAN).mean())


def with_presence(standard: np.ndarray) -> np.ndarray:
    """Appends 1 ("a vector is given") to vectors `[N, D]`, as a network receives them."""
    return np.pad(standard, [(0, 0), (0, 1)], constant_values=1.0).astype(np.float32)


def without_presence(given: np.ndarray) -> np.ndarray:
    """The inverse of `with_presence`, `[N, D]`."""
    return given[:, :-1]


def unit(v: np.ndarray) -> np.ndarray:
    """Scales rows to length one, float64."""
    v = np.asarray(v, np.float64)
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def slerp(a: np.ndarray, b: np.ndarray, theta: np.ndarray | Sequence[float] | float) -> np.ndarray:
    """Spherical interpolation: unit vectors at the fraction `theta` of the arc from `a` to `b`.

    Args:
        a: starting points, `[N, D]`; their lengths do not matter.
        b: end points, `[N, D]`.
        theta: fraction of the angle, one for all or one for each pair.

    Raises:
        ValueError: two vectors are opposite, so that the arc is not unique.
    """
    a, b = unit(a), unit(b)
    t = np.broadcast_to(np.asarray(theta, np.float64), len(a))[:, None]
    cosine = np.clip((a * b).sum(-1, keepdims=True), -1.0, 1.0)
    if (cosine < -1.0 + 1e-9).any():
        raise ValueError("two vectors point in opposite directions: the arc is not unique")
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    near = sine < 1e-7
    safe = np.where(near, 1.0, sine)
    from_a = np.where(near, 1.0 - t, np.sin((1.0 - t) * angle) / safe)
    from_b = np.where(near, t, np.sin(t * angle) / safe)
    return unit(from_a * a + from_b * b)


def most_alike(tries: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Of K candidates `[K, N, D]`, the one with the largest cosine to each of `to` `[N, D]`."""
    cosine = (unit(tries) * unit(to)).sum(-1)
    return tries[cosine.argmax(0), np.arange(tries.shape[1])]
