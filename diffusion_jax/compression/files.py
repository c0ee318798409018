"""Images from the files people have (npz, png, a folder of png) and back."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Split, checked
from diffusion_jax.data.media.base import Medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.data.pictures import Damaged, read_exactly
from diffusion_jax.errors import CodecError, DataError
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.storage import write_arrays, write_picture

_NAME = 200  # bytes of a file's name before its ending
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{d}{i}" for d in ("COM", "LPT") for i in range(10))}


@dataclass(frozen=True)
class Images:
    """Images to code.

    Attributes:
        name: for messages and records.
        images: uint8 `[N, H, W, C]`.
        labels: int32 `[N]`, or None.
        names: of the files, for people (`file_names` makes them fit to write to); empty if the
            images came from one array.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()

    def sha256(self) -> str:
        """Digest of pixels and labels, with their shapes."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).tobytes())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, dtype="<i4").tobytes())
        return digest.hexdigest()


def read(
    path: Path,
    part: str,
    shape: tuple[int, ...],
    levels: int,
    classes: int,
    medium: Medium = IMAGE,
    limit: int = 0,
) -> Images:
    """Reads images and checks that they fit a model.

    Args:
        path: an npz with `image` (and perhaps `label`), or with `train_image`, `test_image` as the
            data set `npz` has them; a png; or a folder of png files.
        part: which arrays of the latter kind of npz, `"train"` or `"test"`.
        shape: the model's `(H, W, C)`.
        levels: the model's grey levels.
        classes: the model's classes; 0 ignores labels.
        medium: what the model is of; of anything but images there is only the npz.
        limit: only the first images; 0 for all.

    Returns:
        The images.

    Raises:
        DataError: there is nothing to read, or it does not fit the model.
    """
    if path.suffix.lower() in (".npz", ".npy") and not path.is_dir():
        found = _npz(path, part)
    elif not IMAGE.fits(shape):
        raise DataError(f"cannot read {path}: give an .npz with image, uint8 {medium.layout}")
    elif path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix.lower() == ".png")
        found = _pngs(paths[: limit or None], path, shape)
    elif path.suffix.lower() == ".png":
        found = _pngs([path], path, shape)
    else:
        raise DataError(f"cannot read {path}: give an .npz, a .png or a folder of .png files")
    _check_size(path, found.images.shape[1:], shape, f"{medium.name}s")
    labels = found.labels if classes else None
    some = np.zeros(len(found.images), np.int32) if labels is None else labels
    if len(some) != len(found.images):
        raise DataError(f"{path}: {len(some)} labels for {len(found.images)} images")
    split = Split(str(path), found.images, some, levels, classes if labels is not None else 0)
    checked(split, medium)
    first = slice(limit or None)
    labels = None if labels is None else labels[first]
    return Images(found.name, found.images[first], labels, found.names[first])


def write_npz(path: Path, found: Images) -> None:
    """Writes `image`, and `label` and `name` if there are any."""
    extra = {} if found.labels is None else {"label": found.labels}
    if found.names:
        extra["name"] = np.array(file_names(found.names))
    write_arrays(path, image=found.images, **extra)


def write_pngs(folder: Path, found: Images) -> None:
    """Writes one png per image with the stored levels as they are, under the old names if any.

    Raises:
        CodecError: there are not as many names as images.
    """
    from PIL import Image

    check_pngs(found.images.shape[1:])
    names = file_names(found.names or [f"{i:06d}.png" for i in range(len(found.images))])
    if len(names) != len(found.images):
        raise CodecError(f"{found.name}: {len(names)} names for {len(found.images)} images")
    folder.mkdir(parents=True)
    for name, image in zip(names, found.images, strict=True):
        grey = image.shape[-1] == 1
        write_picture(folder / name, Image.fromarray(image[:, :, 0] if grey else image))


def check_pngs(shape: tuple[int, ...]) -> None:
    """Raises CodecError if examples of that shape are no pictures."""
    if not IMAGE.fits(shape):
        raise CodecError(
            f"compress.png=True writes pictures, and these are {_size(shape)}; leave it out: the "
            "npz has them"
        )


def file_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names that can be written to in one folder, from names that a file claims.

    A name is never a path: folders, what other systems read as such, control characters and leading
    dots are dropped, and every name ends in .png. No two are equal, nor differ in case alone. What
    is fine already stays as it is.
    """
    out: dict[str, str] = {}
    used: Counter[str] = Counter()
    for i, name in enumerate(names):
        last = re.split(r"[/\\:]", name)[-1]
        last = re.sub(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff<>"|?*]', "", last).strip(" .")
        stem, ending = (last[:-4], last[-4:]) if last.lower().endswith(".png") else (last, ".png")
        stem = stem.encode()[:_NAME].decode(errors="ignore") or f"{i:06d}"
        if stem.partition(".")[0].upper() in _DEVICES:
            stem = f"_{stem}"
        fresh, base = stem + ending, _same(stem)
        while _same(fresh) in out:
            used[base] += 1
            fresh = f"{stem}-{used[base]}{ending}"
        out[_same(fresh)] = fresh
    return tuple(out.values())


def _same(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFKD", name).casefold()


def _check_size(
    path: Path, found: tuple[int, ...], wanted: tuple[int, ...], many: str = "images"
) -> None:
    if tuple(found) != tuple(wanted):
        raise DataError(f"{path}: {many} are {_size(found)}, this model's are {_size(wanted)}")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _npz(path: Path, part: str) -> Images:
    try:
        with path.open("rb") as raw:
            f = untrusted.npz(raw)
        prefix = "" if "image" in f else f"{'test' if part == 'test' else 'train'}_"
        untrusted.need(f, f"{prefix}image" if f"{prefix}image" in f else "image")
    except (OSError, untrusted.Malformed) as e:
        raise DataError(f"cannot read {path} as an npz file: {e}") from e
    images, labels = f[prefix + "image"], f.get(prefix + "label")
    names = f["name"] if "name" in f and not prefix else np.array([], str)
    if images.dtype != np.uint8 or images.ndim < 4:
        raise DataError(f"{path}: images must be uint8 [N,H,W,C], got {images.dtype} "
                        f"{images.shape}")  # fmt: skip
    if labels is not None and (labels.dtype.kind not in "biuf" or labels.ndim != 1):
        raise DataError(f"{path}: labels must be integers [N], got {labels.dtype} {labels.shape}")
    if names.dtype.kind != "U" or names.shape not in ((0,), images.shape[:1]):
        raise DataError(f"{path}: name must be {len(images)} texts, one for each image")
    known = None
    if labels is not None:
        with np.errstate(invalid="ignore"):
            known = labels.astype(np.int32)
        if not np.array_equal(known, labels):
            raise DataError(f"{path}: labels must be whole numbers of 32 bits")
    return Images(path.name, images, known, file_names(names.tolist()))


def _pngs(paths: list[Path], where: Path, shape: tuple[int, ...]) -> Images:
    if not paths:
        raise DataError(f"{where} has no .png files")
    arrays: list[np.ndarray] = []
    for path in paths:
        try:
            with path.open("rb") as raw:
                found = read_exactly(raw)
        except (OSError, Damaged) as e:
            raise DataError(f"cannot read {path}: {e}") from e
        if arrays and found.shape != arrays[0].shape:
            raise DataError(
                f"{path} is {_size(found.shape)}, {paths[0].name} is {_size(arrays[0].shape)}: "
                "all must have one size"
            )
        _check_size(path, found.shape, shape)
        arrays.append(found)
    return Images(where.name, np.stack(arrays), None, tuple(p.name for p in paths))
