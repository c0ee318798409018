"""Samples of a model that replace another data set's training images, or extend them.

`valid` and `test` are real images, so models trained on this are evaluated on real data.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax import registry
from diffusion_jax.allowed import Seed, Share, Whole
from diffusion_jax.data.base import Source, Split, located
from diffusion_jax.data.checks import check_images, check_labels
from diffusion_jax.data.datasets import _memory_mapped
from diffusion_jax.errors import DataError, SpecError, UserError


def make(
    of: Source, samples: str, real: Share = 0.0, size: Whole = 0, seed: Seed = 0, data_dir: str = ""
) -> Source:
    """Training images sampled from a model, in a file written by `--mode=sample`.

    Args:
        of: the real data set, for example `digits()`.
        samples: an npz with `image` and `label`; relative to `data_dir` if that is set.
        real: fraction of real images among the training images.
        size: number of training images, real and synthetic; 0 takes all samples, and as many real
            images as their fraction requires.
        seed: seed for the choice of samples and real images.
        data_dir: see `samples`.

    Raises:
        DataError: `of` is not a labelled data set; the samples are not labelled images of the same
            kind, or too few; or their model, or its teacher, was trained on `valid` or `test`
            images of `of`.
    """
    if not isinstance(of, Source):
        raise DataError(f"synthetic() needs a data set, as in synthetic(digits(), ...); got {of!r}")
    if of.captioned or not of.num_classes:
        why = "captions" if of.captioned else "no classes"
        raise DataError(f"synthetic: {of.name} has {why}; needs labelled data without captions")
    path = located(samples, data_dir)
    arrays = _memory_mapped.npz(path)
    images, labels = _labelled(of, path, arrays)
    name = f"synthetic_{of.name}"
    whole = hashlib.sha256(np.ascontiguousarray(images).tobytes() + labels.tobytes()).hexdigest()
    notes = [f"training images of {path.name} (sha {whole[:12]}), {real:.0%} real"]
    notes += _trained_on(of, path, arrays)

    def load(split: str) -> Split:
        part = of.split(split)
        if split != "train":
            return part
        num_samples, num_real = _counts(len(images), len(part), real, size, path)
        rng = np.random.default_rng(seed)
        real_rows = np.sort(rng.permutation(len(part))[:num_real])
        sample_rows = np.sort(rng.permutation(len(images))[:num_samples])
        real_images = part.take(real_rows)
        return dataclasses.replace(
            part,
            name=f"{name}/{split}",
            images=np.concatenate([real_images["image"], images[sample_rows]]),
            labels=np.concatenate([real_images["label"], labels[sample_rows]]),
        )

    return dataclasses.replace(
        of, name=name, load=load, notes=(*of.notes, *notes), entropy=None, entropy_of_first=None
    )


def _labelled(
    of: Source, path: Path, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The images in a file and their classes."""
    where = f"samples {path}"
    absent = [k for k in ("image", "label") if k not in arrays]
    if absent:
        raise DataError(
            f"{where}: there is no {' and no '.join(absent)}; it must hold labelled samples, as "
            "--mode=sample of a conditional model writes them"
        )
    images = np.asarray(arrays["image"])
    check_images(f"{where}: image", images, of.levels, of.medium)
    if images.shape[1:] != tuple(of.shape):
        raise DataError(f"{where}: images of {images.shape[1:]}; {of.name} has {tuple(of.shape)}")
    labels = np.asarray(arrays["label"])
    check_labels(where, labels, len(images), of.num_classes)
    return images, labels.astype(np.int32)


def _counts(samples: int, real_images: int, real: float, size: int, path: Path) -> tuple[int, int]:
    """The numbers of samples and of real images to use, given the numbers available."""
    if not size:
        size = real_images if real == 1.0 else round(samples / (1.0 - real))
    kept = round(real * size)
    if size - kept > samples or kept > real_images:
        raise DataError(
            f"synthetic: size={size}, real={real} need {size - kept} samples and {kept} real "
            f"images; {path.name} has {samples}, and there are {real_images} real ones: draw more "
            "(--config.sample.num), or lower size"
        )
    return size - kept, kept


def _trained_on(of: Source, path: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    """Refuses samples of a model that saw `valid` or `test`; returns notes on what is unknown."""
    notes = []
    for who, meta in _models(arrays):
        data = meta.get("data", {})
        if not data.get("sketch"):
            notes.append(f"there is no record of what {who} behind {path.name} was trained on")
        elif data["sketch"] != of.split("train").sketch():
            _check_apart(of, f"samples {path}: {who} behind them", data["sketch"], meta)
            notes.append(f"{who} behind {path.name} was trained on other images: {data['name']}")
    return notes


def _check_apart(of: Source, who: str, sketch: str, meta: dict[str, Any]) -> None:
    """Refuses a model trained on images of `valid` or `test`, if its data are still available."""
    train = _images(meta)
    for split in ("valid", "test"):
        try:
            part = of.split(split)
        except DataError:  # nothing is held out
            continue
        whole = sketch == part.sketch()
        real_train = _rows(of.split("train"))  # may contain duplicates of held-out images
        shared = len((_rows(train) & _rows(part)) - real_train) if train else 0
        if whole or shared:
            which = f"{of.name}/{split}" if whole else f"{shared} images of {of.name}/{split}"
            raise DataError(
                f"{who} was trained on {which}, which evaluates models trained on these samples; "
                "draw samples from a model of the training images only"
            )


def _images(meta: dict[str, Any]) -> Split | None:
    """The images a model was trained on, if its configuration still finds them.

    Third-party plug-ins are not imported just because a file of samples mentions them.
    """
    c = meta.get("config", {})
    try:
        if not _ours(registry.parse(c["data"])):
            return None
        return registry.build("data", c["data"], data_dir=c.get("data_dir", "")).split("train")
    except (KeyError, UserError, OSError):
        return None


def _ours(value: Any) -> bool:
    if isinstance(value, registry.Spec):
        return "." not in value.name and all(map(_ours, (*value.args, *value.kwargs.values())))
    return not isinstance(value, tuple | list) or all(map(_ours, value))


def _rows(split: Split) -> set[bytes]:
    return {bytes(np.ascontiguousarray(image)) for image in split.everything()["image"]}


def _models(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The models behind samples: the ones that drew them, and their teachers.

    Yields:
        A phrase for each model, and its record, which may be empty.
    """
    try:
        named = str(json.loads(str(arrays["method"]))["checkpoint"])
    except (KeyError, TypeError, ValueError):
        named = ""
    models = [(f"the model of {name}" if "," in named else "the model", name)
              for name in named.split(", ")]  # fmt: skip
    while models:
        who, name = models.pop(0)
        meta = _record(Path(name)) if name else {}
        yield who, meta
        if teacher := _teacher(meta):
            models.append((f"the teacher of {who}", teacher))


def _record(run: Path) -> dict[str, Any]:
    """The metadata of a checkpoint, or of a run's newest one; empty if missing."""
    steps = [p for p in run.glob("checkpoints/*") if p.name.isdecimal()]
    newest = max(steps, key=lambda p: int(p.name), default=run)
    try:
        return dict(json.loads((newest / "meta" / "metadata").read_bytes()))
    except (TypeError, ValueError, OSError):
        return {}


def _teacher(meta: dict[str, Any]) -> str:
    try:
        return str(registry.parse(meta["config"]["task"]).kwargs.get("teacher", ""))
    except (KeyError, TypeError, SpecError):
        return ""
