"""Samples for evaluation: drawn from a checkpoint, or read from a file."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.data import pictures
from diffusion_jax.data.base import Source
from diffusion_jax.data.listing import listing
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.errors import DataError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.sampling import run_sampler
from diffusion_jax.networks.text_encoders.base import plain
from diffusion_jax.runtime import untrusted

# Names of the arrays in our files, and in those of guided-diffusion and its derivatives.
_KEYS = (("image", "label"), ("arr_0", "arr_1"))

# Errors from damaged files; a single array instead of an archive gives a TypeError.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError,
            zipfile.BadZipFile)  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """One set of samples.

    Attributes:
        images: uint8 `[N, H, W, C]`, levels as in the data.
        labels: the requested classes, `[N]`, or None.
        record: their source, and how they were drawn.
        stem: stem of file names.
        texts: the prompts; empty without.
    """

    images: np.ndarray
    labels: np.ndarray | None
    record: dict[str, Any]
    stem: str
    texts: tuple[str, ...] = ()


def draw(experiment: Experiment, repeats: int) -> Iterator[Samples]:
    """Draws sets of samples with the settings of `config.sample`.

    Yields:
        `repeats` sets, with consecutive seeds.
    """
    c = experiment.config.sample
    params, record = experiment.loaded
    made = run_sampler.compiled(experiment, params)
    for seed in range(c.seed, c.seed + repeats):
        images = made.levels(made(seed))
        how = {
            **record, **made.describe(), "seed": seed, "batch": c.batch,
        }  # fmt: skip
        texts = tuple(plain(t) for t in made.captions)
        yield Samples(images, made.labels, how | _digest(images), str(record["step"]), texts)


def read(experiment: Experiment, path: Path) -> Samples:
    """Reads samples from a file of ours, or of others with images of the same shape.

    Args:
        experiment: the run, whose data define shape, levels and classes.
        path: an npz with `image` and optionally `label` (or `arr_0` and `arr_1`), or a folder of
            images of the data's size, optionally in subfolders named like the classes.

    Raises:
        DataError: the file is unreadable, or images or labels do not fit the data.
    """
    if path.is_dir():
        return _from_folder(experiment.source, path)
    try:
        with path.open("rb") as raw:
            f = untrusted.npz(raw)
            key, label = next((k for k in _KEYS if k[0] in f), _KEYS[0])
            untrusted.need(f, key)
            images, labels = f[key], f.get(label)
            texts = tuple(plain(str(t)) for t in f.get("caption", ()))
            how = json.loads(str(f["method"])) if "method" in f else {}
            how |= {"step": int(f["step"])} if "step" in f else {}
    except _DAMAGED as e:
        raise DataError(
            f"cannot read samples {path}: {untrusted.reason(e)}; it must be an npz with 'image' "
            "(uint8 [N, H, W, C]), as written by --mode=sample"
        ) from e
    source = experiment.source
    if images.shape[1:] != tuple(source.shape) or not len(images):
        raise DataError(
            f"samples {path}: images of shape {images.shape}; {source.name} needs "
            f"[N, {', '.join(map(str, source.shape))}]"
        )
    if not np.issubdtype(images.dtype, np.integer):
        raise DataError(f"samples {path}: {images.dtype} images; they must be whole numbers")
    if images.min() < 0 or images.max() >= source.levels:
        raise DataError(
            f"samples {path}: values from {images.min()} to {images.max()}; {source.name} has "
            f"levels 0 .. {source.levels - 1}"
        )
    if labels is not None:
        labels = np.asarray(labels)
        whole = labels.shape == images.shape[:1] and np.issubdtype(labels.dtype, np.integer)
        if not whole or labels.min() < 0 or labels.max() >= max(source.num_classes, 1):
            raise DataError(
                f"samples {path}: labels must be one whole number per image, 0 .. "
                f"{source.num_classes - 1}"
            )
    record = {"file": str(path), **how, **_digest(images)}
    return Samples(images.astype(np.uint8), labels, record, path.stem, texts)


def _from_folder(source: Source, path: Path) -> Samples:
    """Reads a folder of images as samples; 0 .. 255 is rounded to the nearest level."""
    if not IMAGE.fits(source.shape):
        raise DataError(
            f"samples {path}: a folder contains images; {source.medium.name}s must be in an npz"
        )
    found = listing(path, source.classes or False) if _has_folders(path) else listing(path, False)
    height, width, channels = source.shape

    def one(name: str) -> np.ndarray:
        try:
            picture = pictures.read((path / name).read_bytes(), channels)
        except (OSError, pictures.Damaged) as e:
            raise DataError(f"cannot read the sample {path / name}: {e}") from e
        if picture.size != (width, height):
            raise DataError(
                f"sample {path / name} is {picture.width}x{picture.height}; {source.name} has "
                f"{width}x{height}"
            )
        grey = np.asarray(picture, np.float64) * ((source.levels - 1) / 255.0)
        return np.round(grey).astype(np.uint8).reshape(source.shape)

    images = np.stack([one(name) for name in found.names])
    labels = found.labels if found.classes else None
    return Samples(images, labels, {"folder": str(path), **_digest(images)}, path.name)


def _has_folders(path: Path) -> bool:
    return any(p.is_dir() and not p.name.startswith(".") for p in path.iterdir())


def _digest(images: np.ndarray) -> dict[str, Any]:
    data = np.ascontiguousarray(images, np.uint8)
    found = hashlib.sha256(repr(data.shape).encode() + data.tobytes()).hexdigest()
    return {"images": len(images), "images_sha256": found}
