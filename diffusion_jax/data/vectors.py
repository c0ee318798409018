"""Vectors of real numbers as levels and back: what a prior models, and a decoder is told.

Each value is standardised by its mean and deviation on the training images and put on one of 64
levels over +-3 deviations. What is then modelled is discrete and of finite likelihood; a density on
vectors of unit length would be singular.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 64
SPAN = 3.0  # deviations that the levels reach
_LEAST = 1e-6  # of a deviation, of values that never change


@dataclass(frozen=True)
class Scale:
    """What a vector's values are in standard units.

    Attributes:
        mean: of each value.
        std: of each value.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        """Values of a vector."""
        return len(self.mean)

    @property
    def length(self) -> float:
        """Of a vector: the square root of the mean square."""
        return float(np.sqrt(np.square(self.mean).sum() + np.square(self.std).sum()))

    def standard(self, raw: np.ndarray) -> np.ndarray:
        """Vectors `[N, D]` in deviations from the mean, float32."""
        return ((raw - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)

    def raw(self, standard: np.ndarray) -> np.ndarray:
        """The vectors that `standard` makes these of, float64."""
        return np.asarray(standard, np.float64) * np.asarray(self.std) + np.asarray(self.mean)

    def levels(self, raw: np.ndarray) -> np.ndarray:
        """Vectors `[N, D]` as levels, uint8 `[N, 1, 1, D]`."""
        at = np.floor((self.standard(raw) / SPAN + 1.0) * (LEVELS / 2))
        return np.clip(at, 0, LEVELS - 1).astype(np.uint8)[:, None, None]


def measured(raw: np.ndarray) -> Scale:
    """The scale of vectors `[N, D]`, in six figures: it is written into configurations."""

    def short(values: np.ndarray) -> tuple[float, ...]:
        return tuple(float(f"{v:.6g}") for v in values)

    raw = np.asarray(raw, np.float64)
    return Scale(short(raw.mean(0)), short(np.maximum(raw.std(0), _LEAST)))


def standard_of(levels: np.ndarray) -> np.ndarray:
    """The middle of each level in deviations, float32 `[N, D]`, of levels `[N, 1, 1, D]`."""
    centre = (2.0 * np.asarray(levels, np.float64) + 1.0) / LEVELS - 1.0
    return (SPAN * centre).reshape(len(levels), -1).astype(np.float32)


def clipped(scale: Scale, raw: np.ndarray) -> float:
    """The share of values beyond the levels."""
    return float((np.abs(scale.standard(raw)) > SPAN).mean())


def with_presence(standard: np.ndarray) -> np.ndarray:
    """What a network is told of vectors `[N, D]`: `[N, D + 1]`, the last 1 for "there is one"."""
    return np.pad(standard, [(0, 0), (0, 1)], constant_values=1.0).astype(np.float32)


def without_presence(given: np.ndarray) -> np.ndarray:
    """The vectors of `with_presence`, `[N, D]`."""
    return given[:, :-1]


def unit(v: np.ndarray) -> np.ndarray:
    """Rows of length one, float64."""
    v = np.asarray(v, np.float64)
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def slerp(a: np.ndarray, b: np.ndarray, theta: np.ndarray | Sequence[float] | float) -> np.ndarray:
    """Unit vectors on the great circle from `a` to `b` `[N, D]`, the share `theta` of the angle.

    Raises:
        ValueError: two are opposite, where no circle is shorter than the others.
    """
    a, b = unit(a), unit(b)
    t = np.broadcast_to(np.asarray(theta, np.float64), len(a))[:, None]
    cosine = np.clip((a * b).sum(-1, keepdims=True), -1.0, 1.0)
    if (cosine < -1.0 + 1e-9).any():
        raise ValueError("two vectors point in opposite directions: no way between them is shorter")
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    near = sine < 1e-7
    safe = np.where(near, 1.0, sine)
    from_a = np.where(near, 1.0 - t, np.sin((1.0 - t) * angle) / safe)
    from_b = np.where(near, t, np.sin(t * angle) / safe)
    return unit(from_a * a + from_b * b)


def most_alike(tries: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Of several vectors `[K, N, D]` for each of `to` `[N, D]` the one of largest cosine."""
    cosine = (unit(tries) * unit(to)).sum(-1)
    return tries[cosine.argmax(0), np.arange(tries.shape[1])]
