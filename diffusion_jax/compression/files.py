"""Images from the files people have (npz, png, a folder of png) and back."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Split, checked
from diffusion_jax.errors import DataError
from diffusion_jax.runtime.storage import write_arrays, write_picture


@dataclass(frozen=True)
class Images:
    """Images to code.

    Attributes:
        name: for messages and records.
        images: uint8 `[N, H, W, C]`.
        labels: int32 `[N]`, or None.
        names: of the files, without folders; empty if they came from one array.
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


def read(path: Path, part: str, shape: tuple[int, ...], levels: int, classes: int) -> Images:
    """Reads images and checks that they fit a model.

    Args:
        path: an npz with `image` (and perhaps `label`), or with `train_image`, `test_image` as the
            data set `npz` has them; a png; or a folder of png files.
        part: which arrays of the latter kind of npz, `"train"` or `"test"`.
        shape: the model's `(H, W, C)`.
        levels: the model's grey levels.
        classes: the model's classes; 0 ignores labels.

    Returns:
        The images.

    Raises:
        DataError: there is nothing to read, or it does not fit the model.
    """
    if path.is_dir():
        found = _pngs(sorted(p for p in path.iterdir() if p.suffix.lower() == ".png"), path)
    elif path.suffix.lower() == ".png":
        found = _pngs([path], path)
    elif path.suffix.lower() == ".npz":
        found = _npz(path, part)
    else:
        raise DataError(f"cannot read {path}: give an .npz, a .png or a folder of .png files")
    if found.images.shape[1:] != tuple(shape):
        raise DataError(
            f"{path}: images are {_size(found.images.shape[1:])}, this model's are {_size(shape)}"
        )
    labels = found.labels if classes else None
    some = np.zeros(len(found.images), np.int32) if labels is None else labels
    if len(some) != len(found.images):
        raise DataError(f"{path}: {len(some)} labels for {len(found.images)} images")
    checked(Split(str(path), found.images, some, levels, classes if labels is not None else 0))
    return Images(found.name, found.images, labels, found.names)


def write_npz(path: Path, found: Images) -> None:
    """Writes `image`, and `label` and `name` if there are any."""
    extra = {} if found.labels is None else {"label": found.labels}
    if found.names:
        extra["name"] = np.array(found.names)
    write_arrays(path, image=found.images, **extra)


def write_pngs(folder: Path, found: Images) -> None:
    """Writes one png per image with the stored levels as they are, under the old names if any."""
    from PIL import Image

    folder.mkdir(parents=True)
    for i, image in enumerate(found.images):
        name = found.names[i] if found.names else f"{i:06d}.png"
        grey = image.shape[-1] == 1
        write_picture(folder / name, Image.fromarray(image[:, :, 0] if grey else image))


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _npz(path: Path, part: str) -> Images:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as f:
            prefix = "" if "image" in f else f"{'test' if part == 'test' else 'train'}_"
            if prefix + "image" not in f:
                raise DataError(f"{path} has neither image nor {prefix}image")
            images = f[prefix + "image"]
            labels = f.get(prefix + "label")
            names = tuple(map(str, f["name"])) if "name" in f and not prefix else ()
    except DataError:
        raise
    except Exception as e:  # zipfile and numpy raise many types for damaged files
        raise DataError(f"cannot read {path} as an npz file: {e}") from e
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"{path}: images must be uint8 [N,H,W,C], got {images.dtype} "
                        f"{images.shape}")  # fmt: skip
    return Images(path.name, images, None if labels is None else labels.astype(np.int32), names)


def _pngs(paths: list[Path], where: Path) -> Images:
    from PIL import Image

    if not paths:
        raise DataError(f"{where} has no .png files")
    arrays = []
    for path in paths:
        try:
            with path.open("rb") as raw, Image.open(raw) as picture:
                if picture.mode not in ("L", "RGB"):
                    raise DataError(
                        f"{path} has mode {picture.mode}; only 8-bit grey (L) and RGB can be coded "
                        "without loss: convert it first"
                    )
                a = np.asarray(picture)
        except OSError as e:
            raise DataError(f"cannot read {path}: {e}") from e
        arrays.append(a[..., None] if a.ndim == 2 else a)
        if a.shape != arrays[0].shape[: a.ndim]:
            raise DataError(
                f"{path} is {_size(arrays[-1].shape)}, {paths[0].name} is "
                f"{_size(arrays[0].shape)}: all must have one size"
            )
    return Images(where.name, np.stack(arrays), None, tuple(p.name for p in paths))
