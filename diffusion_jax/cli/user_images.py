"""Reads a user's images (or other examples) and masks, with the levels and the shape of a model.

Image files are read, cropped and resized as in the data set `folder`, and masks in the same way;
arrays must have the model's shape. Values are rounded to the nearest level.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffusion_jax.data.checks import whole_labels
from diffusion_jax.data.media.base import Medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.data.pictures import WHITE, Damaged, fitted, read
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.storage import place

if TYPE_CHECKING:
    from PIL.Image import Image

_ARRAYS = (".npz", ".npy")
_TIME = "time:"


def read_images(
    path: str, shape: tuple[int, ...], levels: int, medium: Medium = IMAGE
) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a file.

    An image file (PNG or any format of Pillow) is read by `data.pictures`, and its values 0 .. 255
    are rounded to the nearest level. An npz, such as those of `--mode=sample`, contains levels:
    uint8 `[N, H, W, C]`, `[H, W, C]` or `[H, W]`, as `image` or its only array, and optionally
    integers `label`.

    Args:
        path: the file.
        shape: `(H, W, C)` of the model, or the shape of its medium.
        levels: number of levels of the model.
        medium: medium of the model; it reads files other than npz.

    Returns:
        Images, uint8 `[N, H, W, C]`, and labels, int32 `[N]` or None.

    Raises:
        DataError: the file cannot be read, or does not fit the model.
    """
    file = place(path)
    if file.suffix.lower() in _ARRAYS:
        arrays = _read_npz(file)
        image = _only(file, arrays, "image")
        image = _from_levels(file, image, shape, levels)
        return image, _labels(file, arrays, len(image))
    try:
        with file.open("rb") as raw:
            return medium.read(raw, shape, levels)[None], None
    except FileNotFoundError as e:
        raise DataError(f"there is no file {str(file)!r}") from e
    except (OSError, Damaged) as e:
        raise DataError(f"cannot read {str(file)!r} as a {medium.file}: {e}") from e


def picture_size(path: str) -> tuple[int, int] | None:
    """Height and width of an image file as displayed, before cropping; None for arrays."""
    if path.startswith(_TIME):
        return None
    file = place(path)
    if file.suffix.lower() in _ARRAYS:
        return None
    picture = _opened(file, 1, WHITE)
    return picture.height, picture.width


def read_mask(path: str, shape: tuple[int, ...], medium: Medium = IMAGE) -> np.ndarray:
    """The mask of a file: 1, white or True where the image is to be repainted.

    Args:
        path: an image file, read as grey; or an npz with `mask` or a single array, `[H, W]`,
            `[H, W, 1]`, `[N, H, W]` or `[N, H, W, 1]`: bool, numbers in [0, 1], or uint8 up to 255;
            or `time:2:6`, frames 2 to 5 of a video (samples of a signal, letters of a text), or
            several of these, `time:0:2,time:6:8`.
        shape: `(H, W, C)` of the model, or the shape of its medium.
        medium: medium of the model. An image file is a mask for every frame of a video.

    Returns:
        float32 `[N, H, W, 1]` in [0, 1], with a time axis if the medium has one.

    Raises:
        DataError: the file cannot be read, or does not fit the model.
    """
    if path.startswith(_TIME):
        return _stretches(path, shape, medium)
    file = place(path)
    if file.suffix.lower() not in _ARRAYS:
        grey = _read_picture(file, 1, shape[-3:-1], None)
        mask = (grey / 255.0).astype(np.float32)[..., None]
        return np.broadcast_to(mask, (1, *shape[:-1], 1))
    mask, axes = _only(file, _read_npz(file), "mask"), len(shape)
    if mask.ndim == axes - 1:
        mask = mask[None]
    if mask.ndim == axes and mask.shape[-1] == 1 and mask.shape[:-1] == shape[:-1]:
        mask = mask[None]
    mask = mask if mask.ndim == axes + 1 else mask[..., None]
    if mask.ndim != axes + 1 or mask.shape[-1] != 1 or not mask.size:
        one = ", ".join(("T", "H", "W")[-axes + 1 :])
        raise DataError(
            f"{file}: a mask has shape [{one}] or [N, {one}], one value per pixel; this one has "
            f"{mask.shape[:-1]}"
        )
    _check_size(file, mask.shape[1:-1], shape[:-1], "mask")
    if mask.dtype.kind not in "bui" + "f":
        raise DataError(f"{file}: a mask consists of numbers, not {mask.dtype}")
    mask = mask.astype(np.float32)
    # Masks of 0 and 255 are as common as those of 0 and 1.
    mask = mask / 255.0 if mask.max() > 1.0 and mask.max() == np.round(mask.max()) else mask
    if not (np.isfinite(mask).all() and mask.min() >= 0.0 and mask.max() <= 1.0):
        raise DataError(f"{file}: the values of a mask are in [0, 1], or integers in 0 .. 255")
    return mask


def _stretches(text: str, shape: tuple[int, ...], medium: Medium) -> np.ndarray:
    """The mask described by text such as `time:2:6`."""
    if medium.time is None:
        raise DataError(f"mask {text!r}: an {medium.name} has no time axis; give a file")
    length, mask = shape[medium.time], np.zeros((1, *shape[:-1], 1), np.float32)
    for part in text.split(","):
        match = re.fullmatch(r"(?:time:)?(\d+):(\d+)", part.strip())
        start, stop = (int(n) for n in match.groups()) if match else (0, 0)
        if not 0 <= start < stop <= length:
            raise DataError(
                f"mask {text!r}: write time:START:STOP with 0 <= START < STOP <= {length}, or "
                "several, separated by commas"
            )
        mask[(slice(None),) * (medium.time + 1) + (slice(start, stop),)] = 1.0
    return mask


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb") as raw:
            return untrusted.npz(raw)
    except (OSError, untrusted.Malformed) as e:
        raise DataError(f"cannot read {str(file)!r} as an npz file: {e}") from e


def _read_picture(
    file: Path, channels: int, size: tuple[int, ...], background: int | None
) -> np.ndarray:
    """The image, uint8 `[H, W]` or `[H, W, 3]`, at the model's resolution."""
    try:
        return fitted(_opened(file, channels, background), (size[0], size[1]))
    except Damaged as e:
        raise DataError(f"cannot use {str(file)!r}: {e}") from e


def _opened(file: Path, channels: int, background: int | None) -> "Image":
    try:
        with file.open("rb") as raw:
            return read(raw, channels, background)
    except FileNotFoundError as e:
        raise DataError(f"there is no file {str(file)!r}") from e
    except (OSError, Damaged) as e:
        raise DataError(f"cannot read {str(file)!r} as an image: {e}") from e


def _only(file: Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name in arrays:
        return arrays[name]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise DataError(
        f"{str(file)!r} needs an array {name!r} (or just one array); it has {', '.join(arrays)}"
    )


def _check_size(file: Path, found: tuple, wanted: tuple, what: str) -> None:
    if tuple(found) == tuple(wanted):
        return
    if len(wanted) == 2:
        raise DataError(
            f"{str(file)!r}: the {what} is {found[0]} pixels high and {found[1]} wide; this model "
            f"needs {wanted[0]} and {wanted[1]}"
        )
    raise DataError(
        f"{str(file)!r}: the {what} is {'x'.join(map(str, found))}; this model needs "
        f"{'x'.join(map(str, wanted))}"
    )


def _from_levels(file: Path, a: np.ndarray, shape: tuple, levels: int) -> np.ndarray:
    if a.dtype.kind not in "ui":
        raise DataError(
            f"{str(file)!r}: images in an npz are integers in 0 .. {levels - 1}, not {a.dtype}"
        )
    if a.ndim == len(shape) - 1:
        a = a[..., None]
    a = a[None] if a.ndim == len(shape) else a
    if a.ndim != len(shape) + 1 or not len(a):
        axes = ", ".join(("T", "H", "W", "C")[-len(shape) :])
        raise DataError(f"{str(file)!r}: images have shape [N, {axes}]; this array has {a.shape}")
    _check_size(file, a.shape[1:-1], shape[:-1], "image")
    if a.shape[-1] != shape[-1]:
        raise DataError(
            f"{str(file)!r}: images have {a.shape[-1]} channels; this model needs {shape[-1]}"
        )
    if a.min() < 0 or a.max() >= levels:
        bad = int(a.min()) if a.min() < 0 else int(a.max())
        raise DataError(
            f"{str(file)!r}: a pixel has value {bad}; this model has levels 0 .. {levels - 1} "
            "(only image files are converted from 0 .. 255)"
        )
    return a.astype(np.uint8)


def _labels(file: Path, arrays: dict, count: int) -> np.ndarray | None:
    if "label" not in arrays:
        return None
    return whole_labels(f"{str(file)!r}: label", np.atleast_1d(arrays["label"]), count)
