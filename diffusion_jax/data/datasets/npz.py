"""Your own images from one `.npz` file: any size, 1 or 3 channels, 2 to 256 levels.

Uncompressed arrays (`np.savez`, not `savez_compressed`) are memory-mapped, so that the file may be
larger than memory.
"""

import functools
from pathlib import Path

import numpy as np

from diffusion_jax.allowed import Levels, Whole
from diffusion_jax.data.base import Source, located
from diffusion_jax.data.datasets import _memory_mapped
from diffusion_jax.errors import DataError


@functools.lru_cache(maxsize=2)
def _arrays(path: str) -> dict[str, np.ndarray]:
    arrays = _memory_mapped.npz(Path(path))
    missing = [k for k in ("train_image", "test_image") if k not in arrays]
    if missing:
        raise DataError(
            f"{path!r} lacks {', '.join(missing)}; it needs train_image and test_image "
            "(uint8 [N,H,W,C]) and, for labels, train_label and test_label"
        )
    return arrays


def make(
    path: str,
    levels: Levels = 256,
    num_classes: Whole | None = None,
    holdout: Whole = 0,
    data_dir: str = "",
) -> Source:
    """Images in an npz file.

    Args:
        path: the file, with `train_image`, `test_image` (uint8 `[N, H, W, C]`, or
            `[N, T, H, W, C]` for videos), optional labels `train_label`, `test_label` (integers),
            and optional captions `train_text`, `test_text` (strings `[N]`, or `[N, M]` for M
            wordings, the first of which is used in evaluation); relative to `data_dir` if that is
            set.
        levels: number of levels; images hold integers 0 .. levels-1.
        num_classes: number of classes; None counts them, 0 ignores labels.
        holdout: number of training images, the last ones, held out as `valid`.
        data_dir: see `path`.
    """
    path = str(located(path, data_dir))
    return _memory_mapped.source("npz", path, _arrays(path), levels, num_classes, holdout)
