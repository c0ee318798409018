"""Real time series from the package `aeon`: `pip install --no-deps aeon==1.6.0`.

Only the data files of the package (6 MB) are read; it is not imported. They are data sets of the
UCR and UEA archives; see the package's documentation for their sources.
"""

from diffusion_jax.allowed import Levels, Rate, Whole
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _installed, _series_files
from diffusion_jax.data.datasets._quantised import check_clip, quantised
from diffusion_jax.errors import DataError

_INSTALL = "pip install --no-deps aeon==1.6.0"


def make(
    name: str = "ItalyPowerDemand",
    levels: Levels = 256,
    clip: Rate = 0.001,
    length: Whole = 0,
    holdout: Whole = 10,
) -> Source:
    """Signals `[1, T, C]` with their classes, quantised as in `series`.

    Args:
        name: a data set in the package; the error for an unknown name lists all.
        levels: number of levels.
        clip: fraction of the training values below the lowest and above the highest level.
        length: number of samples to keep of a signal, from the first; 0 for all.
        holdout: number of training signals, the last ones, held out as `valid`.

    Raises:
        DataError: the package is not installed, has no such data set, or the signals differ in
            length.
    """
    check_clip(clip)
    where = _installed.folder("aeon", "aeon()", _INSTALL) / "datasets" / "data"
    files = {p.stem.removesuffix("_TRAIN"): p for p in sorted(where.glob("*/*_TRAIN.ts"))}
    if name not in files:
        raise DataError(f"aeon: there is no data set {name!r}; allowed: {', '.join(files)}")
    series = _series_files.read(files[name], length, 0.2)
    return quantised(series, files[name].name, levels, clip, length, holdout)
