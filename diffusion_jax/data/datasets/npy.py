"""Your own images from memory-mapped `.npy` files, which may be larger than memory."""

import functools
from pathlib import Path

import numpy as np

from diffusion_jax.allowed import Levels, Whole
from diffusion_jax.data.base import Source, beside, located
from diffusion_jax.data.datasets import _memory_mapped
from diffusion_jax.errors import DataError


@functools.lru_cache(maxsize=2)
def _arrays(folder: Path) -> dict[str, np.ndarray]:
    if not folder.is_dir():
        raise DataError(
            f"{str(folder)!r} is not a folder{beside(folder)}; npy() needs one with "
            "train_image.npy, test_image.npy (uint8 [N,H,W,C]) and, for labels, train_label.npy "
            "and test_label.npy"
        )
    missing = [k for k in ("train_image", "test_image") if not (folder / f"{k}.npy").is_file()]
    if missing:
        raise DataError(
            f"{str(folder)!r} lacks {', '.join(f'{k}.npy' for k in missing)}; it needs "
            "train_image.npy and test_image.npy (uint8 [N,H,W,C])"
        )
    return {p.stem: _memory_mapped.npy(p) for p in sorted(folder.glob("t*_*.npy"))}


def make(
    path: str,
    levels: Levels = 256,
    num_classes: Whole | None = None,
    holdout: Whole = 0,
    data_dir: str = "",
) -> Source:
    """Images in a folder of npy files, read on demand.

    Args:
        path: the folder, with `train_image.npy`, `test_image.npy` (uint8 `[N, H, W, C]`, or
            `[N, T, H, W, C]` for videos), optional labels `train_label.npy`, `test_label.npy`
            (integers `[N]`) and optional captions `train_text.npy`, `test_text.npy` (strings);
            relative to `data_dir` if that is set.
        levels: number of levels; images hold integers 0 .. levels-1.
        num_classes: number of classes; None counts them, 0 ignores labels.
        holdout: number of training images, the last ones, held out as `valid`.
        data_dir: see `path`.

    Raises:
        DataError: files are missing or not valid.
    """
    folder = located(path, data_dir)
    arrays = _arrays(folder)
    return _memory_mapped.source("npy", str(folder), arrays, levels, num_classes, holdout)
