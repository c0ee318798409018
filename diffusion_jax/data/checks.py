"""Checks of images and labels, for all data sets."""

from typing import Any

import numpy as np

from diffusion_jax.data.media.base import Medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.errors import DataError

_BLOCK = 4096  # images checked together; they may be a memory map


def check_images(where: str, images: Any, levels: int = 256, medium: Medium = IMAGE) -> None:
    """Raises DataError unless `images` is uint8 `[N, H, W, 1 or 3]` with values below `levels`.

    Args:
        where: name of the images in messages.
        images: the images.
        levels: number of levels; below 256 every pixel is checked.
        medium: kind of the examples, which decides what shape they must have.
    """
    dtype, shape = getattr(images, "dtype", type(images).__name__), tuple(np.shape(images))
    if dtype != np.uint8 or not medium.fits(shape[1:]):
        raise DataError(f"{where} must be uint8 {medium.layout}, got {dtype} {shape}")
    if levels < 256:
        blocks = range(0, shape[0], _BLOCK)
        top = max((int(np.max(images[i : i + _BLOCK])) for i in blocks), default=0)
        if top >= levels:
            raise DataError(
                f"{where}: a pixel has value {top}, but levels={levels} allows 0 .. {levels - 1}"
            )


def whole_labels(where: str, labels: Any, count: int) -> np.ndarray:
    """Labels as int32 `[count]`.

    Raises:
        DataError: labels are not integers, not one per image, or too large for int32.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{where} must be integers [{count}], one per image, got {labels.dtype} {labels.shape}"
        )
    whole = labels.astype(np.int32)
    if not np.array_equal(whole, labels):
        wrong = labels[whole != labels][0]
        raise DataError(f"{where}: label {wrong} is out of range")
    return whole


def check_labels(where: str, labels: Any, count: int, num_classes: int) -> None:
    """Raises DataError unless `labels` is `[count]` integers 0 .. num_classes-1."""
    labels = whole_labels(f"{where}: labels", labels, count)
    if num_classes and count:
        lo, hi = int(labels.min()), int(labels.max())
        if lo < 0 or hi >= num_classes:
            raise DataError(
                f"{where}: label {lo if lo < 0 else hi} is out of range; {num_classes} classes "
                f"allow 0 .. {num_classes - 1}"
            )


def count_classes(where: str, *labels: np.ndarray) -> int:
    """Number of classes, for labels numbered from 0.

    Raises:
        DataError: the smallest label is not 0.
    """
    low, high = min(int(a.min()) for a in labels), max(int(a.max()) for a in labels)
    if low:
        raise DataError(
            f"{where}: labels are {low} .. {high}, but must be numbered from 0; renumber them, or "
            "set num_classes"
        )
    return high + 1
