"""Your own signals: `.ts` files of time series, `.npz` arrays, or an 8-bit `.wav`."""

import zlib
from pathlib import Path

import numpy as np

from diffusion_jax.allowed import Levels, Rate, Whole
from diffusion_jax.data.base import Source, Split, located
from diffusion_jax.data.datasets import _series_files as files
from diffusion_jax.data.media.signal import SIGNAL
from diffusion_jax.errors import DataError


def make(
    path: str,
    levels: Levels = 256,
    clip: Rate = 0.001,
    length: Whole = 0,
    test: Rate = 0.2,
    holdout: Whole = 0,
    data_dir: str = "",
) -> Source:
    """Signals `[1, T, C]`, brought to levels between two quantiles of the training values.

    Values of an 8-bit wav, mu-law or linear, are levels already, and so are integers 0 .. levels-1
    of uint8: bits are those of the file. Other values are quantised, channel by channel.

    Args:
        path: a `.ts` file (with `_TRAIN` in its name: the one with `_TEST` beside it is the test
            set), an `.npz` with `train` and `test` (`[N, T]` or `[N, T, C]`; perhaps `train_label`
            and `test_label`), or a `.wav`, which is cut into pieces; relative to `data_dir` if that
            is set.
        levels: how many there are.
        clip: part of the training values below the lowest and above the highest level.
        length: samples of a signal; 0: as long as they are, of a wav 256.
        test: part kept back for the test, where there is no test set.
        holdout: training signals kept back as `valid`, the last ones.
        data_dir: see `path`.

    Raises:
        DataError: the file cannot be read, or holds no signals of one length.
    """
    if clip >= 0.5:
        raise DataError(f"series: clip={clip} must be below 0.5: so much is cut off at either end")
    found = files.read(located(path, data_dir), length, test)
    train, later = found.train, found.test
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
        mirrors=False,
    )  # fmt: skip
