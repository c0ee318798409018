"""Arrays of `.npz` and `.npy` files, memory-mapped wherever the file allows it."""

import zipfile
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Source, Split, hold_out
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import untrusted

_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


def _member(path: Path, info: zipfile.ZipInfo) -> np.ndarray | None:
    """A stored (not compressed) array of a zip file, memory-mapped; None if it cannot be."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        return None
    with path.open("rb") as f:
        f.seek(info.header_offset)
        head = f.read(_LOCAL_HEADER)
        f.seek(int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little"), 1)
        shape, fortran, dtype = untrusted.npy_header(f, info.file_size)
        if 0 in shape:
            return None
        return np.memmap(path, dtype, "r", f.tell(), shape, "F" if fortran else "C")


def _array(path: Path, z: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    mapped = _member(path, info)
    return untrusted.member(z, info) if mapped is None else mapped


def npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file: memory-mapped if stored plainly, as `np.savez` does.

    Returns:
        The arrays by name.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as z:
            untrusted.check_members(z, z.infolist())
            return {i.filename.removesuffix(".npy"): _array(path, z, i) for i in z.infolist()}
    except Exception as e:  # zipfile, zlib and numpy raise many types for damaged files
        raise DataError(f"cannot read {str(path)!r} as an npz file: {untrusted.reason(e)}") from e


def npy(path: Path) -> np.ndarray:
    """The array of an npy file, memory-mapped.

    Returns:
        The array.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as f:
            untrusted.npy_header(f, path.stat().st_size)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as e:  # numpy raises many types for damaged files
        raise DataError(f"cannot read {str(path)!r} as an npy file: {untrusted.reason(e)}") from e


def check_images(where: str, images: np.ndarray) -> None:
    """Raises DataError unless `images` is uint8 `[N, H, W, C]`; `where` names it in the message."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(
            f"{where} must be uint8 [N,H,W,C], got {images.dtype} {tuple(images.shape)}"
        )


def check_labels(where: str, labels: np.ndarray, images: np.ndarray) -> None:
    """Raises DataError unless `labels` is integers `[N]`, one for each of `images`."""
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{where} must be integers [{len(images)}], one per image, got {labels.dtype} "
            f"{tuple(labels.shape)}"
        )


def source(
    name: str,
    where: str,
    arrays: dict[str, np.ndarray],
    levels: int,
    num_classes: int,
    holdout: int,
) -> Source:
    """A `Source` over arrays `train_image`, `test_image` and perhaps `train_label`, `test_label`.

    Args:
        name: its name.
        where: the file or folder, for messages.
        arrays: what was found there.
        levels: images hold 0 .. levels-1.
        num_classes: number of classes; 0 ignores labels.
        holdout: training images kept back as `valid`, the last ones.

    Raises:
        DataError: the arrays are not images and labels.
    """
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_image"], arrays.get(f"{part}_label")
        check_images(f"{where!r}: {part}_image", images)
        if num_classes and labels is not None:
            check_labels(f"{where!r}: {part}_label", labels, images)
    if arrays["train_image"].shape[1:] != arrays["test_image"].shape[1:]:
        raise DataError(
            f"{where!r}: training images are {arrays['train_image'].shape[1:]}, test images "
            f"{arrays['test_image'].shape[1:]}"
        )

    def load(split: str) -> Split:
        part = "test" if split == "test" else "train"
        images, labels = arrays[f"{part}_image"], arrays.get(f"{part}_label")
        if labels is None or not num_classes:
            labels = np.zeros(len(images), np.int32)
        labels = np.asarray(labels, np.int32)
        if split != "test":
            images, labels = hold_out(split, images, labels, holdout)
        return Split(f"{name}/{split}", images, labels, levels, num_classes)

    shape = tuple(arrays["train_image"].shape[1:])
    return Source(name, shape, levels, num_classes, load)
