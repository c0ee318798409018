"""Your own signals: `.ts` files of time series, `.npz` arrays, or an 8-bit `.wav`."""

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
    """Signals `[1, T, C]`, brought to levels between two quantiles of the training values.

    Values of an 8-bit wav, mu-law or linear, are levels already, and so are integers 0 .. levels-1
    of uint8: bits are those of the file. Other values are quantised, channel by channel; the record
    of the data has their `scale`, and samples have them as `measured` beside the levels.

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
    check_clip(clip)
    found = files.read(located(path, data_dir), length, test)
    return quantised(found, path, levels, clip, length, holdout)
