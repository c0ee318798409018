"""The two releases of downsampled ImageNet, which must not be confused.

| | new | old |
|---|---|---|
| names here | `imagenet32`, `imagenet64` | `imagenet32_old`, `imagenet64_old` |
| made by | Chrabaszcz et al. 2017: areas averaged | van den Oord et al. 2016: less smoothed |
| known as | "downsampled ImageNet", TFDS `imagenet_resized` | TFDS `downsampled_imagenet` |
| files | `train_data_batch_1` .. `10`, `val_data` | `train_32x32/*.png`, `valid_32x32/*.png` |
| images | 1,281,167 and 50,000 | 1,281,149 and 49,999 |
| labels | 1,000 classes | none |

At 32x32 the new release is about 0.25 bits/dim easier (i-DODE: 3.43 against 3.69). The old one is
no longer distributed, but most papers before 2021 report results on it.
"""

import functools
import hashlib
import io
import itertools
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Source, Split, hold_out, located
from diffusion_jax.data.datasets import _cache, _pickled, _prepared
from diffusion_jax.data.datasets._pictures import Pictures
from diffusion_jax.data.listing import listing
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import cache, untrusted

CLASSES = 1000
COUNTS = {"new": {"train": 1281167, "test": 50000}, "old": {"train": 1281149, "test": 49999}}
_TFDS = {"new": "imagenet_resized", "old": "downsampled_imagenet"}


def refuse_other(release: str, size: int, split: str, count: int) -> None:
    """Raises DataError if there are exactly as many images as in the other release.

    Args:
        release: the expected release, `"new"` or `"old"`.
        size: 32 or 64.
        split: `"train"` or `"test"`.
        count: number of images before any are held out.
    """
    other = "old" if release == "new" else "new"
    if count == COUNTS[other][split]:
        suffix = {"new": "", "old": "_old"}
        raise DataError(
            f"imagenet{size}{suffix[release]}: {count:,} {split} images are those of the {other} "
            f"release, whose bits/dim are not comparable; use imagenet{size}{suffix[other]}()"
        )


def make(
    release: str, size: int, data_dir: str, holdout: int, path: str = "", workers: int = 0
) -> Source:
    """One release at one size; splits are read when they are first used.

    Args:
        release: `"new"` or `"old"`.
        size: 32 or 64.
        data_dir: the folder of tensorflow-datasets.
        holdout: number of training images held out as `valid`.
        path: a folder with the published files, used instead of TFDS; relative to `data_dir`.
        workers: threads that decode; 0 for one per processor.
    """
    name = f"imagenet{size}" + ("_old" if release == "old" else "")
    shape, classes = (size, size, 3), CLASSES if release == "new" else 0

    def load(split: str) -> Split:
        part = "test" if split == "test" else "train"
        if path:
            images, labels = _published(release, size, located(path, data_dir), part, workers)
        else:
            folder = _prepared.find(f"{_TFDS[release]}/{size}x{size}", data_dir)
            tfds = "validation" if part == "test" else part
            images, labels = _prepared.read(folder, tfds, classes > 0)
        if images.shape[1:] != shape:
            raise DataError(f"{name}: images are {images.shape[1:]}, not {shape}")
        refuse_other(release, size, part, len(images))
        if split != "test":
            images, labels = hold_out(split, images, labels, holdout)
        return Split(f"{name}/{split}", images, labels, 256, classes)

    return Source(name, shape, 256, classes, load)


def _published(
    release: str, size: int, folder: Path, part: str, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """The published files as a memory map, written on first use."""
    batches = {"train": "train_data_batch_*", "test": "val_data*"}[part]
    pictures = folder / f"{'valid' if part == 'test' else 'train'}_{size}x{size}"
    paths = {"new": sorted(folder.glob(batches), key=_number), "old": [pictures]}
    paths = {k: [p for p in v if p.exists()] for k, v in paths.items()}
    other = "old" if release == "new" else "new"
    if not paths[release]:
        suffix = "_old" if other == "old" else ""
        hint = (
            f"; it holds the {other} release, whose bits/dim are not comparable: use "
            f"imagenet{size}{suffix}()"
            if paths[other]
            else ""
        )
        needed = {"new": f"files {batches} (pickled or .npz)", "old": f"folder {pictures.name}"}
        raise DataError(f"{folder} has no {needed[release]}{hint}")
    if release == "new":
        _refuse_twice(paths["new"])
    if release == "old":
        files = listing(pictures, False)
        reader = Pictures(files.root, files.names, (size, size), 3, workers)
        tag, write = files.fingerprint(), functools.partial(reader.write, files.labels)
    else:
        stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths["new"]]
        tag = hashlib.sha256(repr(stats).encode()).hexdigest()
        write = functools.partial(_join, paths["new"], size)
    return _cache.once(cache.root() / f"imagenet{size}-{release}-{part}-{tag[:16]}", write)


def _refuse_twice(paths: list[Path]) -> None:
    """Raises DataError if a batch exists in two formats, because its images would count twice."""
    for one, other in itertools.pairwise(paths):  # sorted by number
        if _number(one)[0] == _number(other)[0]:
            raise DataError(
                f"{one.parent} has the same batch twice, {one.name} and {other.name}; move one of "
                "them away"
            )


def _number(path: Path) -> tuple[int, str]:
    """Sort key that puts batch 10 after batch 9."""
    digits = "".join(c for c in path.stem if c.isdigit())
    return int(digits or 0), path.name


def _batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`data` (uint8 `[N, 3 * size * size]`, channel by channel) and `labels` (from 1) of a file."""
    raw = path.read_bytes()
    read = untrusted.npz if raw[:2] == b"PK" else _pickled.arrays
    try:
        arrays = read(io.BytesIO(raw))
        data, labels = arrays["data"], arrays["labels"]
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels):
            raise untrusted.Malformed("labels are not a list of integers")
        if labels.min() < 1 or labels.max() > CLASSES:
            raise untrusted.Malformed(f"labels are not all in 1 .. {CLASSES}")
    except (ValueError, KeyError) as e:
        raise DataError(
            f"cannot read {path} as a batch of downsampled ImageNet: {untrusted.reason(e)}"
        ) from e
    return data, labels.astype(np.int32)


def _join(paths: list[Path], size: int, out: Path) -> None:
    """Joins all batches into one array; labels start from 0."""
    labels = []
    with _cache.growing(out / "images.npy", (size, size, 3)) as add:
        for path in paths:
            data, batch_labels = _batch(path)
            count = len(batch_labels)
            if data.dtype != np.uint8 or data.shape != (count, 3 * size * size):
                raise DataError(
                    f"{path}: data are {data.dtype} {data.shape}, not uint8 "
                    f"[{count}, {3 * size * size}]; do the images have another size than {size}?"
                )
            add(data.reshape(-1, 3, size, size).transpose(0, 2, 3, 1))
            labels.append(batch_labels - 1)
    np.save(out / "labels.npy", np.concatenate(labels))
