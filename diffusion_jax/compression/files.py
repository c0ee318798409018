"""Reading images from npz files, png files or folders of png files, and writing them."""

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

_NAME = 200  # greatest length in bytes of a file name without its extension
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{d}{i}" for d in ("COM", "LPT") for i in range(10))}


@dataclass(frozen=True)
class Images:
    """Images to code.

    Attributes:
        name: name for messages and records.
        images: uint8 `[N, H, W, C]`.
        labels: int32 `[N]`, or None.
        names: names of the files, unchecked (`file_names` makes them safe to write to); empty if
            the images came from one array.
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
        path: an npz with `image` (and perhaps `label`), or with `train_image` and `test_image` as
            in the data set `npz`; a png; or a folder of png files.
        part: which arrays of the second kind of npz to read, `"train"` or `"test"`.
        shape: shape of the model's images, `(H, W, C)`.
        levels: number of the model's grey levels.
        classes: number of the model's classes; 0 ignores labels.
        medium: the model's medium; all but images are read from npz files only.
        limit: number of images to read, from the first; 0 for all.

    Raises:
        DataError: the files cannot be read, or do not fit the model.
    """
    if path.suffix.lower() in (".npz", ".npy") and not path.is_dir():
        images = _npz(path, part)
    elif not IMAGE.fits(shape):
        raise DataError(f"cannot read {path}: give an .npz with image, uint8 {medium.layout}")
    elif path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix.lower() == ".png")
        images = _pngs(paths[: limit or None], path, shape)
    elif path.suffix.lower() == ".png":
        images = _pngs([path], path, shape)
    else:
        raise DataError(f"cannot read {path}: give an .npz, a .png or a folder of .png files")
    count = len(images.images)
    _check_size(path, images.images.shape[1:], shape, f"{medium.name}s")
    labels = images.labels if classes else None
    some = np.zeros(count, np.int32) if labels is None else labels
    if len(some) != count:
        raise DataError(f"{path}: {len(some)} labels for {count} images")
    split = Split(str(path), images.images, some, levels, classes if labels is not None else 0)
    checked(split, medium)
    first = slice(limit or None)
    labels = None if labels is None else labels[first]
    return Images(images.name, images.images[first], labels, images.names[first])


def write_npz(path: Path, images: Images) -> None:
    """Writes `image`, and `label` and `name` if there are any."""
    extra = {} if images.labels is None else {"label": images.labels}
    if images.names:
        extra["name"] = np.array(file_names(images.names))
    write_arrays(path, image=images.images, **extra)


def write_pngs(folder: Path, images: Images) -> None:
    """Writes one png per image, with the stored levels unchanged, under the original names if any.

    Raises:
        CodecError: the images are not pictures, or the numbers of names and images differ.
    """
    from PIL import Image

    check_pngs(images.images.shape[1:])
    names = file_names(images.names or [f"{i:06d}.png" for i in range(len(images.images))])
    if len(names) != len(images.images):
        raise CodecError(f"{images.name}: {len(names)} names for {len(images.images)} images")
    folder.mkdir(parents=True)
    for name, image in zip(names, images.images, strict=True):
        grey = image.shape[-1] == 1
        write_picture(folder / name, Image.fromarray(image[:, :, 0] if grey else image))


def check_pngs(shape: tuple[int, ...]) -> None:
    """Raises CodecError if examples of this shape are not pictures."""
    if not IMAGE.fits(shape):
        raise CodecError(
            f"compress.png=True writes pictures, and these examples are {_size(shape)}; leave it "
            "out: the npz contains them"
        )


def file_names(names: Sequence[str]) -> tuple[str, ...]:
    """Safe and distinct names for files in one folder, from untrusted names.

    The result never contains folders (or what other systems read as such), control characters or
    leading dots, and ends in .png. No two names are equal or differ only in case. Valid names are
    kept unchanged.
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
    """A key that is equal for names that some file systems do not distinguish."""
    return unicodedata.normalize("NFKD", name).casefold()


def _check_size(
    path: Path, shape: tuple[int, ...], needed: tuple[int, ...], plural: str = "images"
) -> None:
    if tuple(shape) != tuple(needed):
        raise DataError(f"{path}: {plural} are {_size(shape)}, this model's are {_size(needed)}")


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
    integers = None
    if labels is not None:
        with np.errstate(invalid="ignore"):
            integers = labels.astype(np.int32)
        if not np.array_equal(integers, labels):
            raise DataError(f"{path}: labels must be 32-bit integers")
    return Images(path.name, images, integers, file_names(names.tolist()))


def _pngs(paths: list[Path], where: Path, shape: tuple[int, ...]) -> Images:
    if not paths:
        raise DataError(f"{where} has no .png files")
    arrays: list[np.ndarray] = []
    for path in paths:
        try:
            with path.open("rb") as raw:
                image = read_exactly(raw)
        except (OSError, Damaged) as e:
            raise DataError(f"cannot read {path}: {e}") from e
        if arrays and image.shape != arrays[0].shape:
            raise DataError(
                f"{path} is {_size(image.shape)}, {paths[0].name} is {_size(arrays[0].shape)}: "
                "all must have the same size"
            )
        _check_size(path, image.shape, shape)
        arrays.append(image)
    return Images(where.name, np.stack(arrays), None, tuple(p.name for p in paths))
