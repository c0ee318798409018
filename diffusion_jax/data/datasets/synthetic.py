"""Samples of a model in place of another data set's training images, or beside them.

`valid` and `test` are the real ones: what is trained on this is measured on real images.
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
    """Training images drawn by a model, as `--mode=sample` leaves them.

    Args:
        of: the real data set, for example `digits()`.
        samples: an npz with `image` and `label`; relative to `data_dir` if that is set.
        real: the share of real training images.
        size: training images, real and synthetic; 0: all samples, and real ones for their share.
        seed: of the choice among samples and among real images.
        data_dir: see `samples`.

    Raises:
        DataError: no data set was given, or the file's samples are not labelled images like its
            own, or too few, or of a model that was trained on some of its `valid` or `test` images,
            by itself or by its teacher.
    """
    if not isinstance(of, Source):
        raise DataError(f"synthetic() needs a data set, as in synthetic(digits(), ...); got {of!r}")
    if of.captioned or not of.num_classes:
        why = "captions" if of.captioned else "no classes"
        raise DataError(f"synthetic: {of.name} has {why}; it takes labelled data without captions")
    path = located(samples, data_dir)
    arrays = _memory_mapped.npz(path)
    images, labels = _labelled(of, path, arrays)
    name = f"synthetic_{of.name}"
    whole = hashlib.sha256(np.ascontiguousarray(images).tobytes() + labels.tobytes()).hexdigest()
    notes = [f"training images of {path.name} (sha {whole[:12]}), {real:.0%} real"]
    notes += _trained_on(of, path, arrays)

    def load(split: str) -> Split:
        found = of.split(split)
        if split != "train":
            return found
        drawn, kept = _counts(len(images), len(found), real, size, path)
        rng = np.random.default_rng(seed)
        mine, theirs = (
            np.sort(rng.permutation(len(a))[:n]) for a, n in ((found, kept), (images, drawn))
        )
        taken = found.take(mine)
        return dataclasses.replace(
            found,
            name=f"{name}/{split}",
            images=np.concatenate([taken["image"], images[theirs]]),
            labels=np.concatenate([taken["label"], labels[theirs]]),
        )

    return dataclasses.replace(
        of, name=name, load=load, notes=(*of.notes, *notes), entropy=None, entropy_of_first=None
    )


def _labelled(
    of: Source, path: Path, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The images of a file and their classes."""
    where = f"samples {path}"
    lacking = [k for k in ("image", "label") if k not in arrays]
    if lacking:
        raise DataError(
            f"{where}: there is no {' and no '.join(lacking)}; it needs labelled samples, as "
            "--mode=sample of a conditional model writes them"
        )
    images = np.asarray(arrays["image"])
    check_images(f"{where}: image", images, of.levels, of.medium)
    if images.shape[1:] != tuple(of.shape):
        raise DataError(f"{where}: images of {images.shape[1:]}; {of.name} has {tuple(of.shape)}")
    labels = np.asarray(arrays["label"])
    check_labels(where, labels, len(images), of.num_classes)
    return images, labels.astype(np.int32)


def _counts(there: int, found: int, real: float, size: int, path: Path) -> tuple[int, int]:
    """How many samples and how many real images."""
    if not size:
        size = found if real == 1.0 else round(there / (1.0 - real))
    kept = round(real * size)
    if size - kept > there or kept > found:
        raise DataError(
            f"synthetic: size={size}, real={real} are {size - kept} samples and {kept} real "
            f"images; {path.name} has {there}, and there are {found} real ones: draw more "
            "(--config.sample.num), or lower size"
        )
    return size - kept, kept


def _trained_on(of: Source, path: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    """Refuses samples of a model of the images that are to judge them; notes what is not known."""
    notes = []
    for who, meta in _models(arrays):
        data = meta.get("data", {})
        if not data.get("sketch"):
            notes.append(f"what {who} behind {path.name} was trained on is not on record")
        elif data["sketch"] != of.split("train").sketch():
            _check_apart(of, f"samples {path}: {who} behind them", data["sketch"], meta)
            notes.append(f"{who} behind {path.name} was trained on other images: {data['name']}")
    return notes


def _check_apart(of: Source, who: str, sketch: str, meta: dict[str, Any]) -> None:
    """Refuses a model of images that are to judge: of a whole split, or, where found, of some."""
    train = _images(meta)
    for split in ("valid", "test"):
        try:
            found = of.split(split)
        except DataError:  # nothing is held out
            continue
        whole = sketch == found.sketch()
        own = _rows(of.split("train"))  # of which some may be in both by themselves
        some = len((_rows(train) & _rows(found)) - own) if train else 0
        if whole or some:
            which = f"{of.name}/{split}" if whole else f"{some} images of {of.name}/{split}"
            raise DataError(
                f"{who} was trained on {which}, which is to judge what is trained on them; draw "
                "samples of a model of the training images alone"
            )


def _images(meta: dict[str, Any]) -> Split | None:
    """The images a model was trained on, if its configuration still finds them.

    Not by a plug-in of somebody else's: a file of samples is no reason to import it.
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
    """The models that had a part in samples: who drew them, and its teachers.

    Yields:
        Each in words, with its record; an empty one where there is none.
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
    """What a checkpoint, or the newest one of a run, says of itself, if it is still there."""
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
