"""Your own signals: `.ts` files of time series, `.npz` arrays, or 8-bit `.wav` files."""

from diffusion_jax.allowed import Levels, Rate, Whole
from diffusion_jax.data.base import Source, located
from diffusion_jax.data.datasets import _series_files as files
from diffusion_jax.data.datasets._quantised import check_clip, quantised


def make(
    path: str,
    levels: Levels = 256,
    clip: Rate = 0.001,
    length: Whole = 0,
    test: Rate = 0.2,
    holdout: Whole = 0,
    data_dir: str = "",
) -> Source:
    """Signals `[1, T, C]`, quantised between two quantiles of the training values.

    The bytes of an 8-bit wav file, mu-law or linear, and uint8 arrays with values 0 .. levels-1 are
    used as levels directly, so that bits are those of the file. Other values are quantised channel
    by channel. The record of the data then has their `scale`, and samples contain the values in
    original units as `measured`, beside the levels.

    Args:
        path: a `.ts` file (if its name contains `_TRAIN`, the file with `_TEST` beside it is the
            test set), an `.npz` with `train` and `test` (`[N, T]` or `[N, T, C]`; optionally
            `train_label` and `test_label`), or a `.wav`, which is cut into pieces; relative to
            `data_dir` if that is set.
        levels: number of levels.
        clip: fraction of the training values below the lowest and above the highest level.
        length: number of samples in a signal; 0 for all (256 for wav files).
        test: fraction held out for the test, if there is no test set.
        holdout: number of training signals, the last ones, held out as `valid`.
        data_dir: see `path`.

    Raises:
        DataError: the file cannot be read, or the signals differ in length.
    """
    check_clip(clip)
    signals = files.read(located(path, data_dir), length, test)
    return quantised(signals, path, levels, clip, length, holdout)
