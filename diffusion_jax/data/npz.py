"""Your own images from one `.npz` file: any size, 1 or 3 channels, 2 to 256 levels."""

import functools
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Source, Split, hold_out
from diffusion_jax.errors import DataError


@functools.lru_cache(maxsize=2)
def _arrays(path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as f:
            arrays = dict(f)
    except (OSError, ValueError) as e:
        raise DataError(f"cannot read {path!r} as an npz file: {e}") from e
    missing = [k for k in ("train_image", "test_image") if k not in arrays]
    if missing:
        raise DataError(
            f"{path!r} lacks {', '.join(missing)}; it needs train_image and test_image "
            "(uint8 [N,H,W,C]) and, for labels, train_label and test_label"
        )
    for key in ("train_image", "test_image"):
        a = arrays[key]
        if a.dtype != np.uint8 or a.ndim != 4:
            raise DataError(f"{path!r}: {key} must be uint8 [N,H,W,C], got {a.dtype} {a.shape}")
    return arrays


def make(path: str, levels: int = 256, num_classes: int = 0, holdout: int = 0) -> Source:
    """Images in an npz file.

    Args:
        path: the file, with `train_image`, `test_image` (uint8 `[N,H,W,C]`) and optionally
            `train_label`, `test_label` (integers).
        levels: images hold 0 .. levels-1.
        num_classes: number of classes; 0 ignores labels.
        holdout: training images kept back as `valid`.

    Returns:
        The source.
    """
    arrays = _arrays(str(Path(path).expanduser()))

    def load(split: str) -> Split:
        part = "test" if split == "test" else "train"
        images = arrays[f"{part}_image"]
        labels = arrays.get(f"{part}_label", np.zeros(len(images))).astype(np.int32)
        if len(labels) != len(images):
            raise DataError(f"{path!r}: {len(labels)} {part} labels for {len(images)} images")
        if split != "test":
            images, labels = hold_out(split, images, labels, holdout)
        return Split(f"npz/{split}", images, labels, levels, num_classes)

    shape = tuple(arrays["train_image"].shape[1:])
    return Source("npz", shape, levels, num_classes, load)
