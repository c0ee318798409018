"""Data sets prepared by tensorflow-datasets as array_record, read without TensorFlow.

PNGs are decoded only once (see `_cache`).
"""

import hashlib
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import Source, Split, check_on_disk, hold_out
from diffusion_jax.data.checks import check_images, whole_labels
from diffusion_jax.data.datasets import _cache
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import cache
from diffusion_jax.runtime.home import expanded

_CHUNK = 1000


def find(name: str, data_dir: str) -> Path:
    """The folder with `dataset_info.json` of the newest version of a prepared data set.

    Args:
        name: TFDS name, with its config if it has one (`"imagenet_resized/32x32"`).
        data_dir: the TFDS folder; empty for `~/tensorflow_datasets`.

    Raises:
        DataError: the data set is missing or not in array_record format; the message contains the
            command that prepares it. (TFDS itself would retry a download for minutes.)
    """
    check_on_disk(data_dir)
    root = expanded(data_dir or "~/tensorflow_datasets", DataError)
    versions = [p.parent for p in (root / name).glob("*/dataset_info.json")]
    usable = [p for p in versions if any(p.glob("*.array_record*"))]
    if usable:
        return max(usable, key=lambda p: [int(n) if n.isdigit() else 0 for n in p.name.split(".")])
    # TFDS does not prepare a data set in a second format beside the first.
    other = next((s for p in versions for s in ("tfrecord", "riegeli", "parquet")
                  if any(p.glob(f"*.{s}*"))), "")  # fmt: skip
    into = root.with_name(f"{root.name}_array_record") if other else root
    downloads = f"download_dir='{root / 'downloads'}'" if other else ""
    why = (
        f"in {root} as {other}, but is needed as array_record: prepare it again, in a separate "
        "folder (TFDS keeps one format per folder; nothing is downloaded twice)"
        if other
        else f"not prepared as array_record in {root}: prepare it once"
    )
    raise DataError(
        f"data set {name!r} is {why}; this needs TensorFlow and the network: pip install "
        "-e '.[prepare]' && python -c \"import tensorflow_datasets as tfds; "
        f"tfds.builder('{name}', data_dir='{into}', "
        f"file_format='array_record').download_and_prepare({downloads})\"; or point "
        f"--config.data_dir at the folder that holds it{f' ({into})' if other else ''}"
    )


def _cache_folder(folder: Path) -> Path:
    tag = hashlib.sha256()
    for p in sorted(folder.iterdir()):
        tag.update(f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns};".encode())
    return cache.root() / f"{folder.parent.name}-{folder.name}-{tag.hexdigest()[:12]}"


def _decode(folder: Path, split: str, labelled: bool, out: Path) -> None:
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as e:
        raise DataError(
            f"reading {folder} needs tensorflow-datasets, which is not installed ({e}): pip "
            "install tensorflow-datasets array_record importlib_resources"
        ) from e
    try:
        source = tfds.builder_from_directory(str(folder)).as_data_source(split)
    except (ValueError, KeyError, OSError) as e:
        raise DataError(f"cannot read split {split!r} in {folder}: {e}") from e
    images = labels = None
    for start in range(0, len(source), _CHUNK):
        rows = source.__getitems__(list(range(start, min(start + _CHUNK, len(source)))))
        block = np.stack([r["image"] for r in rows])
        check_images(f"{folder}, split {split}", block)
        if images is None:
            shape = (len(source), *block.shape[1:])
            images = np.lib.format.open_memmap(out / "images.npy", "w+", np.uint8, shape)
            labels = np.zeros(len(source), np.int32)
        images[start : start + len(rows)] = block
        if labelled:
            where = f"{folder}, split {split}: label"
            block_labels = [r["label"] for r in rows if "label" in r]
            labels[start : start + len(rows)] = whole_labels(where, block_labels, len(rows))
    images.flush()
    np.save(out / "labels.npy", labels)


def read(folder: Path, split: str, labelled: bool) -> tuple[np.ndarray, np.ndarray]:
    """All images (memory-mapped, uint8) and labels (int32; zeros unless `labelled`) of a split.

    Raises:
        DataError: the split does not exist or cannot be read, or the cache cannot be written.
    """
    final = _cache_folder(folder) / split
    return _cache.once(final, lambda part: _decode(folder, split, labelled, part))


def source(
    name: str,
    tfds_name: str,
    shape: tuple[int, int, int],
    num_classes: int,
    data_dir: str,
    holdout: int,
    test: str = "test",
    classes: tuple[str, ...] = (),
) -> Source:
    """A `Source` for a prepared data set with 256 levels; splits are read when first used.

    Args:
        name: name of the data set.
        tfds_name: name of the data set in TFDS.
        shape: shape of an image.
        num_classes: number of classes.
        data_dir: the TFDS folder.
        holdout: number of training images held out as `valid`.
        test: the TFDS split used as test set.
        classes: names of the classes.
    """

    def load(split: str) -> Split:
        folder = find(tfds_name, data_dir)
        images, labels = read(folder, test if split == "test" else "train", num_classes > 0)
        if split != "test":
            images, labels = hold_out(split, images, labels, holdout)
        return Split(f"{name}/{split}", images, labels, 256, num_classes)

    return Source(name, shape, 256, num_classes, load, classes)
