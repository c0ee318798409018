"""Quantises signals from files."""

import zlib
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.datasets._series_files import Series
from diffusion_jax.data.media.signal import SIGNAL
from diffusion_jax.errors import DataError


def check_clip(clip: float) -> None:
    """Raises DataError if clipping would leave nothing."""
    if clip >= 0.5:
        raise DataError(f"clip={clip} must be below 0.5: this fraction is clipped at both ends")


def quantised(
    series: Series, path: str, levels: int, clip: float, length: int, holdout: int
) -> Source:
    """The data set of signals; see `series` for the arguments.

    Raises:
        DataError: the arguments do not suit the signals.
    """
    train, test, scale = series.train, series.test, ()
    if length:
        train, test = train[:, :length], test[:, :length]
    if train.dtype != np.uint8:
        low, high = (np.quantile(train, q, axis=(0, 1)) for q in (clip, 1.0 - clip))
        if not (high > low).all():
            raise DataError(
                f"series: {path} has a channel whose training values are all equal between the "
                f"quantiles {clip:g} and {1.0 - clip:g}: there is nothing to quantise; use clip=0.0"
            )
        width = high - low
        scale = tuple(zip(low.tolist(), (width / levels).tolist(), strict=True))
        scaled = [np.floor((a - low) / width * levels) for a in (train, test)]
        train, test = (np.clip(a, 0, levels - 1).astype(np.uint8) for a in scaled)
    top = int(max(train.max(), test.max()))
    if top >= levels:
        raise DataError(f"series: {path} has value {top}; levels={levels} allows 0 .. {levels - 1}")
    if not 0 <= holdout < len(train):
        raise DataError(f"series: holdout={holdout} must be 0 .. {len(train) - 1}")
    cut, classes = len(train) - holdout, len(series.classes)
    tag = zlib.crc32(np.ascontiguousarray(train).tobytes())
    name = f"{Path(path).stem}_{levels}_{tag:08x}"
    parts = {
        "train": (train[:cut], series.train_labels[:cut]),
        "valid": (train[cut:], series.train_labels[cut:]),
        "test": (test, series.test_labels),
    }

    def load(split: str) -> Split:
        signals, labels = parts[split]
        return Split(f"{name}/{split}", signals[:, None], labels, levels, classes)

    return Source(
        name, (1, *train.shape[1:]), levels, classes, load, series.classes, medium=SIGNAL,
        mirrors=False, scale=scale,
    )  # fmt: skip
