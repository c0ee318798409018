"""A folder of images (png, jpg, webp), read by a pool of threads while the network trains.

Bits per dimension depend on how images are made small: averaging areas, as here, takes detail out
and the figure down, by 0.25 for ImageNet at 32x32 between two ways of doing it. Compare figures
only between images made small alike, by the same program.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffusion_jax.allowed import Count, Rate, Whole
from diffusion_jax.data.base import Source, Split, located
from diffusion_jax.data.datasets import _cache, _captions
from diffusion_jax.data.datasets._pictures import Pictures
from diffusion_jax.data.listing import Listing, splits
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import cache

_RULE = "central-box-2"  # how a file becomes an image: a cache of another rule is not ours


def make(
    path: str,
    size: Count | tuple[Count, Count],
    channels: Count = 3,
    valid: Rate = 0.05,
    test: Rate = 0.05,
    classes: bool = True,
    cache: bool = False,
    captions: str = "",
    data_dir: str = "",
    workers: Whole = 0,
) -> Source:
    """Images in a folder and its subfolders, cut to their centre and made small.

    The largest central part of the wanted proportions is shrunk by averaging areas; images that are
    too small count as damaged. `data.pictures` says how files become pixels.

    Training images are decoded whenever they are needed, in the order of (seed, step). `valid` and
    `test` are decoded once, into a memory map under `$DIFFUSION_JAX_CACHE`, because a figure needs
    every image exactly once. A file that cannot be decoded is named and counted; in training the
    next good file takes its place, in `valid`, `test` and with `cache` it is left out.

    Args:
        path: the folder; relative to `data_dir` if that is set. With a subfolder `train` (or
            `training`), splits are subfolders; subfolders (of a split) are classes.
        size: height and width in pixels, or one number for both.
        channels: 3, or 1 for luminance.
        valid: part of the training images kept back for validation, by a hash of their names, if
            there is no folder of that name.
        test: part of the training images kept back for the test, likewise.
        classes: whether subfolders are classes; False ignores them.
        cache: decode the training images once, too: no decoding in later epochs and runs, for
            `height * width * channels` bytes of disk an image.
        captions: `"txt"`: each image has a text file of its name beside it, whose first line is its
            caption; or the name of a file in the folder, of lines like
            `{"file": "cats/1.png", "text": "a cat"}`, with several lines of a file for several
            wordings. Empty: none.
        data_dir: see `path`.
        workers: threads that decode; 0 for one per processor.

    Raises:
        DataError: the folder holds no images, or the arguments make none.
    """
    sides = size if isinstance(size, tuple) else (size, size)
    whole = all(type(n) is int and n > 0 for n in sides)
    if not whole or len(sides) != 2 or channels not in (1, 3):
        raise DataError(
            f"folder: size={size}, channels={channels}: allowed are size=64 or size=(height, "
            "width), and 1 or 3 channels"
        )
    if workers < 0:
        raise DataError(f"folder: workers={workers} must be at least 0 (one per processor)")
    found, notes = splits(located(path, data_dir), valid, test, classes, captions)
    names, name = found["train"].classes, Path(path).name
    said = _captions.read(located(path, data_dir), captions, found) if captions else {}

    def load(split: str) -> Split:
        files = found[split]
        if not files.names:
            if split == "train":
                raise DataError(
                    f"{name}/train is empty: all images fall into valid={valid} and test={test} by "
                    "a hash of their names; hold less back, or add images"
                )
            raise DataError(_empty(f"{name}/{split}", len(found["train"].names), path, size))
        told = said.get(split)
        if cache or split != "train":
            numbered = replace(files, labels=np.arange(len(files.names), dtype=np.int32))
            images, labels = decoded(numbered if told else files, sides, channels, workers)
            if told:  # damaged images are left out, and their captions
                told, labels = told.part(labels), files.labels[labels]
        else:
            images = Pictures(files.root, files.names, sides, channels, workers)
            labels = files.labels
            images[:1]  # a hopeless folder is refused now, not when the run has begun
        return Split(f"{name}/{split}", images, labels, 256, len(names), told)

    return Source(
        name, (*sides, channels), 256, len(names), load, names, notes, captioned=bool(said)
    )


def _empty(name: str, others: int, path: str, size: int | tuple[int, int]) -> str:
    """What to do where chance, or the arguments, have put no picture into a split."""
    where = json.dumps(path, ensure_ascii=False)
    return (
        f"{name} is empty, beside {others} images to train on; hold more back, "
        f"--config.data='folder(path={where}, size={size}, valid=0.2, test=0.2)', or choose "
        "another split"
    )


def decoded(
    files: Listing, size: tuple[int, int], channels: int, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """All images of a listing, decoded once and memory-mapped; damaged ones are left out."""
    about = f"{_RULE} {size} {channels} {files.fingerprint()} {files.labels.tobytes().hex()}"
    tag = hashlib.sha256(about.encode()).hexdigest()[:16]
    pictures = Pictures(files.root, files.names, size, channels, workers)
    final = cache.root() / f"folder-{files.root.name}-{tag}"
    return _cache.once(final, lambda out: pictures.write(files.labels, out))
