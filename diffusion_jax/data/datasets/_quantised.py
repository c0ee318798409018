"""Signals of files as levels."""

import zlib
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.datasets._series_files import Series
from diffusion_jax.data.media.signal import SIGNAL
from diffusion_jax.errors import DataError


def check_clip(clip: float) -> None:
    """Raises DataError if nothing would be left."""
    if clip >= 0.5:
        raise DataError(f"clip={clip} must be below 0.5: so much is cut off at either end")


def quantised(
    found: Series, path: str, levels: int, clip: float, length: int, holdout: int
) -> Source:
    """The data set of signals; the arguments are those of `series`.

    Raises:
        DataError: they do not fit the signals.
    """
    train, later, scale = found.train, found.test, ()
    if length:
        train, later = train[:, :length], later[:, :length]
    if train.dtype != np.uint8:
        low, high = (np.quantile(train, q, axis=(0, 1)) for q in (clip, 1.0 - clip))
        if not (high > low).all():
            raise DataError(
                f"series: {path} has a channel whose training values are all the same between the "
                f"quantiles {clip:g} and {1.0 - clip:g}: there is nothing to quantise; use clip=0.0"
            )
        width = high - low
        scale = tuple(zip(low.tolist(), (width / levels).tolist(), strict=True))
        scaled = [np.floor((a - low) / width * levels) for a in (train, later)]
        train, later = (np.clip(a, 0, levels - 1).astype(np.uint8) for a in scaled)
    top = int(max(train.max(), later.max()))
    if top >= levels:
        raise DataError(f"series: {path} has value {top}; levels={levels} allows 0 .. {levels - 1}")
    if not 0 <= holdout < len(train):
        raise DataError(f"series: holdout={holdout} must be 0 .. {len(train) - 1}")
    cut, classes = len(train) - holdout, len(found.classes)
    tag = zlib.crc32(np.ascontiguousarray(train).tobytes())
    name = f"{Path(path).stem}_{levels}_{tag:08x}"
    parts = {
        "train": (train[:cut], found.train_labels[:cut]),
        "valid": (train[cut:], found.train_labels[cut:]),
        "test": (later, found.test_labels),
    }

    def load(split: str) -> Split:
        signals, labels = parts[split]
        return Split(f"{name}/{split}", signals[:, None], labels, levels, classes)

    return Source(
        name, (1, *train.shape[1:]), levels, classes, load, found.classes, medium=SIGNAL,
        mirrors=False, scale=scale,
    )  # fmt: skip
