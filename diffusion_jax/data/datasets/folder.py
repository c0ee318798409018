"""A folder of images (png, jpg, webp), read by a pool of threads while the network trains.

Bits per dimension depend on how images were shrunk. Area averaging, as used here, removes detail
and lowers bits/dim; two ways to shrink ImageNet to 32x32 differ by 0.25. Compare bits/dim only
between images shrunk in the same way, by the same program.
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

_RULE = "central-box-2"  # how files become images; part of the name of a cache


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
    """Images in a folder and its subfolders, cropped to the centre and shrunk.

    The largest central crop with the right proportions is shrunk by area averaging; images that
    are too small count as damaged. See `data.pictures` for how files become pixels.

    Training images are decoded whenever they are needed, in the order given by (seed, step).
    `valid` and `test` are decoded once, into a memory map under `$DIFFUSION_JAX_CACHE`, because an
    evaluation needs every image exactly once. A file that cannot be decoded is reported and
    counted. In training the next good file replaces it; in `valid`, `test` and with `cache` it is
    left out.

    Args:
        path: the folder; relative to `data_dir` if that is set. With a subfolder `train` (or
            `training`), splits are subfolders. Subfolders (of a split) are classes.
        size: height and width in pixels, or one number for both.
        channels: 3, or 1 for luminance.
        valid: fraction of the training images held out for validation, by a hash of their names, if
            there is no folder of that name.
        test: fraction held out for the test, in the same way.
        classes: whether subfolders are classes; False ignores them.
        cache: whether to decode training images once, too. This saves decoding in later epochs and
            runs, and uses `height * width * channels` bytes of disk per image.
        captions: `"txt"` if each image has a text file of the same name beside it, whose first line
            is the caption; or the name of a file in the folder with lines such as
            `{"file": "cats/1.png", "text": "a cat"}`, several for an image with several wordings.
            Empty for no captions.
        data_dir: see `path`.
        workers: threads that decode; 0 for one per processor.

    Raises:
        DataError: the folder holds no images, or an argument is not valid.
    """
    sides = size if isinstance(size, tuple) else (size, size)
    whole = all(type(n) is int and n > 0 for n in sides)
    if not whole or len(sides) != 2 or channels not in (1, 3):
        raise DataError(
            f"folder: size={size}, channels={channels}: allowed: size=64 or size=(height, width), "
            "and 1 or 3 channels"
        )
    if workers < 0:
        raise DataError(f"folder: workers={workers} must be at least 0 (one per processor)")
    listings, notes = splits(located(path, data_dir), valid, test, classes, captions)
    names, name = listings["train"].classes, Path(path).name
    texts = _captions.read(located(path, data_dir), captions, listings) if captions else {}

    def load(split: str) -> Split:
        files = listings[split]
        if not files.names:
            if split == "train":
                raise DataError(
                    f"{name}/train is empty: all images fall into valid={valid} and test={test} by "
                    "a hash of their names; hold out less, or add images"
                )
            raise DataError(_empty(f"{name}/{split}", len(listings["train"].names), path, size))
        split_texts = texts.get(split)
        if cache or split != "train":
            numbered = replace(files, labels=np.arange(len(files.names), dtype=np.int32))
            images, labels = decoded(numbered if split_texts else files, sides, channels, workers)
            if split_texts:  # leave out captions of damaged images
                split_texts, labels = split_texts.part(labels), files.labels[labels]
        else:
            images = Pictures(files.root, files.names, sides, channels, workers)
            labels = files.labels
            images[:1]  # fail now, not during the run, if no image can be read
        return Split(f"{name}/{split}", images, labels, 256, len(names), split_texts)

    return Source(
        name, (*sides, channels), 256, len(names), load, names, notes, captioned=bool(texts)
    )


def _empty(name: str, others: int, path: str, size: int | tuple[int, int]) -> str:
    """The message for a split without images."""
    where = json.dumps(path, ensure_ascii=False)
    return (
        f"{name} is empty, but there are {others} training images; hold out more, "
        f"--config.data='folder(path={where}, size={size}, valid=0.2, test=0.2)', or choose "
        "another split"
    )


def decoded(
    files: Listing, size: tuple[int, int], channels: int, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """All images of a listing, decoded once and memory-mapped; damaged ones are left out."""
    key = f"{_RULE} {size} {channels} {files.fingerprint()} {files.labels.tobytes().hex()}"
    tag = hashlib.sha256(key.encode()).hexdigest()[:16]
    pictures = Pictures(files.root, files.names, size, channels, workers)
    final = cache.root() / f"folder-{files.root.name}-{tag}"
    return _cache.once(final, lambda out: pictures.write(files.labels, out))
