"""Arrays from `.npz` and `.npy` files, memory-mapped where the file allows it."""

import zipfile
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Source, Split, beside, hold_out
from diffusion_jax.data.captions import Captions, captions_of, missing
from diffusion_jax.data.checks import check_images, count_classes, whole_labels
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.data.media.video import VIDEO
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import untrusted

_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


def _member(path: Path, info: zipfile.ZipInfo) -> np.ndarray | None:
    """An uncompressed array in a zip file, memory-mapped; None if that is impossible."""
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
    """The arrays of an npz file, memory-mapped if uncompressed, as `np.savez` writes them.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as z:
            untrusted.check_members(z, z.infolist())
            return {i.filename.removesuffix(".npy"): _array(path, z, i) for i in z.infolist()}
    except Exception as e:  # zipfile, zlib and numpy raise many types for damaged files
        why = f"{untrusted.reason(e)}{'' if path.exists() else beside(path)}"
        raise DataError(f"cannot read {str(path)!r} as an npz file: {why}") from e


def npy(path: Path) -> np.ndarray:
    """The array of an npy file, memory-mapped.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as f:
            untrusted.npy_header(f, path.stat().st_size)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as e:  # numpy raises many types for damaged files
        raise DataError(f"cannot read {str(path)!r} as an npy file: {untrusted.reason(e)}") from e


def source(
    name: str,
    where: str,
    arrays: dict[str, np.ndarray],
    levels: int,
    num_classes: int | None,
    holdout: int,
) -> Source:
    """A `Source` with the arrays `train_image`, `test_image`, optionally `train_label` etc.

    Args:
        name: name of the data set.
        where: the file or folder, for messages.
        arrays: the arrays by name.
        levels: number of levels.
        num_classes: number of classes; 0 ignores labels, None counts them if there are any.
        holdout: number of training images, the last ones, held out as `valid`.

    Raises:
        DataError: the arrays are not valid images and labels.
    """
    images = {part: arrays[f"{part}_image"] for part in ("train", "test")}
    captions = _captions(where, arrays)
    medium = VIDEO if images["train"].ndim == 5 else IMAGE
    for part, part_images in images.items():
        check_images(f"{where!r}: {part}_image", part_images, medium=medium)
    if images["train"].shape[1:] != images["test"].shape[1:]:
        raise DataError(
            f"{where!r}: training images are {images['train'].shape[1:]}, test images "
            f"{images['test'].shape[1:]}"
        )
    labels, notes = {}, ()
    try:
        labels = {} if num_classes == 0 else _labels(where, arrays)
        if num_classes is None:
            num_classes = count_classes(repr(where), *labels.values()) if labels else 0
    except DataError as e:
        if num_classes is not None:
            raise
        num_classes, notes = 0, (f"labels are ignored: {e}",)
    if num_classes and not labels:
        raise DataError(f"{where!r} has no train_label and test_label; set num_classes=0")

    def load(split: str) -> Split:
        part = "test" if split == "test" else "train"
        x = images[part]
        y = labels[part] if num_classes else np.zeros(len(x), np.int32)
        texts = captions.get(part)
        if split != "test":
            rows = np.arange(len(x))
            x, y = hold_out(split, x, y, holdout)
            texts = texts and texts.part(hold_out(split, rows, rows, holdout)[0])
        return Split(f"{name}/{split}", x, y, levels, num_classes, texts)

    return Source(
        name, tuple(images["train"].shape[1:]), levels, num_classes, load, notes=notes,
        captioned=bool(captions), medium=medium,
    )  # fmt: skip


def _captions(where: str, arrays: dict[str, np.ndarray]) -> dict[str, Captions]:
    """Captions `train_text` and `test_text`, strings `[N]` or `[N, M]`; both or neither."""
    names = {part: f"{part}_text" for part in ("train", "test")}
    absent = [name for name in names.values() if name not in arrays]
    if len(absent) == 2:
        return {}
    if absent:
        raise DataError(f"{where!r} has captions, but no {absent[0]}")
    captions = {}
    for part, name in names.items():
        texts, count = np.asarray(arrays[name]), len(arrays[f"{part}_image"])
        if texts.dtype.kind != "U" or texts.ndim not in (1, 2) or len(texts) != count:
            raise DataError(
                f"{where!r}: {name} must be strings [{count}] or [{count}, M], got {texts.dtype} "
                f"{texts.shape}"
            )
        empty = [f"row {i}" for i, t in enumerate(texts.reshape(count, -1)[:, 0]) if not t.strip()]
        if empty:
            raise missing(f"{where!r}: {name}", "images have no caption", empty)
        captions[part] = captions_of([tuple(row) for row in texts.reshape(count, -1).tolist()])
    return captions


def _labels(where: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Labels `train_label` and `test_label`; both or neither."""
    names = {part: f"{part}_label" for part in ("train", "test")}
    absent = [name for name in names.values() if name not in arrays]
    if len(absent) == 2:
        return {}
    if absent:
        raise DataError(f"{where!r} has labels, but no {absent[0]}; num_classes=0 ignores them")
    return {
        part: whole_labels(f"{where!r}: {name}", arrays[name], len(arrays[f"{part}_image"]))
        for part, name in names.items()
    }
