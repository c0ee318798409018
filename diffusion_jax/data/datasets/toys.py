"""Small binary videos with known distribution: a glyph that moves over a torus.

A video is determined by glyph, place and velocity; all combinations are distinct and equally
likely. With ten glyphs, 16 x 16 places and eight velocities the entropy is exactly log2(20480) =
14.32 bits, a reference value for bounds. Two frames determine the rest.
"""

import functools
import math
import zlib

import numpy as np

from diffusion_jax.allowed import Count, Move, Whole
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.media.video import VIDEO
from diffusion_jax.errors import DataError

_HELD = {"valid": 500, "test": 1000}
# The ten digits, 5 high and 3 wide; each row of three pixels is a binary number.
_ROWS = ("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71122", "75757", "75717")
_HEIGHT, _WIDTH = 5, 3
_NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x)


def glyph(number: int) -> np.ndarray:
    """A digit, uint8 `[5, 3]` of 0 and 1."""
    return np.asarray([[int(row) >> k & 1 for k in (2, 1, 0)] for row in _ROWS[number]], np.uint8)


def make(
    glyphs: Count = 10,
    size: Count = 16,
    frames: Count = 8,
    velocities: tuple[tuple[Move, Move], ...] = _NEIGHBOURS,
) -> Source:
    """Videos of one glyph with two levels, labelled by the glyph.

    The training set holds all videos, in a fixed order. `valid` and `test` are 500 and 1,000 random
    ones of them, because the task is to learn this distribution, not to generalise beyond it.

    Args:
        glyphs: number of glyphs, taken from the ten digits.
        size: side of the torus.
        frames: number of frames.
        velocities: possible velocities in pixels per frame, (down, right); `((0, 0),)` for no
            motion.

    Raises:
        DataError: an argument is not valid, or two videos would be equal.
    """
    if glyphs > len(_ROWS):
        raise DataError(f"toys: glyphs={glyphs}: there are only {len(_ROWS)}")
    if size < _HEIGHT + 1:
        raise DataError(f"toys: size={size}: must be at least {_HEIGHT + 1} for a glyph")
    speeds = np.asarray(velocities, int).reshape(-1, 2) % size
    if not len(speeds) or len(np.unique(speeds, axis=0)) < len(speeds):
        raise DataError(
            f"toys: velocities={velocities} must be pairs (down, right), all different on a torus "
            f"of size {size}"
        )
    if frames == 1 and len(speeds) > 1:
        raise DataError("toys: frames=1 shows no velocity; use velocities=((0, 0),)")
    every = glyphs * size * size * len(speeds)
    name = f"toys_{glyphs}_{frames}x{size}_{zlib.crc32(speeds.tobytes()):08x}"

    def load(split: str) -> Split:
        order = np.random.default_rng(0).permutation(every)
        if split in _HELD:
            seed = zlib.crc32(split.encode())
            order = np.random.default_rng(seed).integers(0, every, _HELD[split])
        which, y, x, v = np.unravel_index(order, (glyphs, size, size, len(speeds)))
        images = _drawn(np.stack([glyph(k) for k in range(glyphs)])[which], y, x, speeds[v],
                        frames, size)  # fmt: skip
        return Split(f"{name}/{split}", images, which.astype(np.int32), 2, glyphs)

    def entropy_of_first(count: int) -> tuple[float, float]:
        seen = every if count > 1 else every // len(speeds)  # two frames determine the velocity
        return math.log2(seen), math.log2(seen / glyphs)

    return Source(
        name, (frames, size, size, 1), 2, glyphs, functools.lru_cache(load),
        tuple("0123456789"[:glyphs]), mirrors=False, medium=VIDEO,
        entropy=entropy_of_first(frames), entropy_of_first=entropy_of_first,
    )  # fmt: skip


def _drawn(
    glyphs: np.ndarray, y: np.ndarray, x: np.ndarray, v: np.ndarray, frames: Whole, size: int
) -> np.ndarray:
    """Renders videos, uint8 `[N, frames, size, size, 1]`."""
    n, height, width = glyphs.shape
    out = np.zeros((n, frames, size, size, 1), np.uint8)
    row, down, right = np.arange(n)[:, None, None], np.arange(height), np.arange(width)
    for t in range(frames):
        top = (y + t * v[:, 0])[:, None, None] + down[:, None]
        left = (x + t * v[:, 1])[:, None, None] + right
        out[row, t, top % size, left % size, 0] = glyphs
    return out
