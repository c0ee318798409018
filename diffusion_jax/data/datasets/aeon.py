"""Real time series that come with the package `aeon`: `pip install --no-deps aeon==1.6.0`.

Of that package (6 MB) the files are read and nothing is imported. They are the sets of the UCR and
UEA archives that it carries; see its documentation for where each is from.
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
    """Signals `[1, T, C]` with their classes, brought to levels as `series` brings them.

    Args:
        name: a set that the package has; another is told which there are.
        levels: how many there are.
        clip: part of the training values below the lowest and above the highest level.
        length: samples of a signal, the first; 0: as long as they are.
        holdout: training signals kept back as `valid`, the last ones.

    Raises:
        DataError: the package is not installed, or has no such set, or of signals of many lengths.
    """
    check_clip(clip)
    where = _installed.folder("aeon", "aeon()", _INSTALL) / "datasets" / "data"
    files = {p.stem.removesuffix("_TRAIN"): p for p in sorted(where.glob("*/*_TRAIN.ts"))}
    if name not in files:
        raise DataError(f"aeon: there is no set {name!r}; allowed are {', '.join(files)}")
    found = _series_files.read(files[name], length, 0.2)
    return quantised(found, files[name].name, levels, clip, length, holdout)
