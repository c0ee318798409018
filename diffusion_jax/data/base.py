"""The contract of a data set, and the order in which its examples are visited.

A data plug-in's `make(...)` returns a `Source`. Order is a pure function of (seed, step): there is
nothing to checkpoint, and a resumed run starts at its step.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.data.captions import TEXTS, Captions, check_captions, of_rows
from diffusion_jax.data.checks import check_images, check_labels
from diffusion_jax.data.media.base import Medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.errors import ConfigError, DataError, foreign
from diffusion_jax.registry import nearest
from diffusion_jax.runtime.home import expanded
from diffusion_jax.runtime.progress import progress

SPLITS = ("train", "valid", "test")
_BLOCK = 4096  # images looked at together
_WHOLE = 2**28  # bytes of images up to which a sketch covers all of them; of more, so many runs
_RUNS, _RUN = 64, 64  # of so many images, as single ones take long to find on a disk


@dataclass(frozen=True)
class Split:
    """Examples that can be indexed.

    Attributes:
        name: data set and split, for messages and records.
        images: uint8 `[N, H, W, C]`, or as another medium says: an array, a memory map, or an
            object that reads what it is indexed with. Such an object may have `read(indices) ->
            (images, used)`, if it replaces damaged examples by others, `skipped` (how many), and
            `sketch() -> bytes` (a digest).
        labels: int32 `[N]`.
        levels: images hold 0 .. levels-1.
        num_classes: labels hold 0 .. num_classes-1; 0 if there are none.
        captions: what the images are said to show; None without.
        embedding: what a network is told of each image, float32 `[N, D]`; None for nothing.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    levels: int
    num_classes: int
    captions: Captions | None = None
    embedding: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, of an image `(H, W, C)`."""
        return tuple(self.images.shape[1:])

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """`{"image": uint8 [B,H,W,C], "label": int32 [B]}` at `indices`; `Captions.rows` if any."""
        if hasattr(self.images, "read"):
            images, indices = self.images.read(indices)
        else:
            images = np.asarray(self.images[indices])
        return {"image": images, "label": self.labels[indices], **self._text(indices)}

    def _text(self, indices: Any = slice(None)) -> dict[str, np.ndarray]:
        told = {} if self.embedding is None else {"embedding": self.embedding[indices]}
        return told if self.captions is None else {**told, **self.captions.rows(indices)}

    def everything(self) -> dict[str, np.ndarray]:
        """All examples, as from `take`, in memory."""
        if not hasattr(self.images, "read"):
            return {"image": np.asarray(self.images), "label": self.labels, **self._text()}
        parts = []
        with progress(f"read {self.name}", len(self)) as bar:
            for start in range(0, len(self), _BLOCK):
                parts.append(self.take(np.arange(start, min(start + _BLOCK, len(self)))))
                bar.at(start + len(parts[-1]["label"]))
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}

    def loaded(self, indices: np.ndarray | None = None) -> "Split":
        """The examples at `indices`, or all, in memory.

        Where one is damaged and another stands in for it, its label and captions are the other's.
        """
        rows = self.everything() if indices is None else self.take(indices)
        captions = self.captions
        if captions is not None and indices is not None:
            captions = captions.part(indices)
        return dataclasses.replace(
            self, images=rows["image"], labels=rows["label"], captions=of_rows(captions, rows),
            embedding=rows.get("embedding"),
        )  # fmt: skip

    def whole(self) -> dict[str, np.ndarray]:
        """`everything`, in which texts are a table, `captions.TEXTS`, that has each of them once.

        `"caption"` are its rows: see `captions.looked_up`.
        """
        if self.captions is None or self.captions.ids is None:
            return self.everything()
        unread = dataclasses.replace(self, captions=dataclasses.replace(self.captions, ids=None))
        return {**unread.everything(), TEXTS: self.captions.ids}

    @property
    def nbytes(self) -> int:
        """Size of `whole`, but for labels."""
        ids = None if self.captions is None else self.captions.ids
        return sum(a.nbytes for a in (self.images, ids, self.embedding) if a is not None)

    @property
    def skipped(self) -> int:
        """Damaged examples that were replaced so far, on this host."""
        return getattr(self.images, "skipped", 0)

    def sketch(self) -> str:
        """A digest of all labels, captions and of the images, in large sets of some: quick to take.

        Of image files it covers all names, and the content of some files.
        """
        digest = hashlib.sha256(repr((self.images.shape, self.levels, self.num_classes)).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int32).data)
        digest.update(self.captions.digest() if self.captions else b"")
        if hasattr(self.images, "sketch"):
            digest.update(self.images.sketch())
        else:
            starts = np.arange(0, len(self), _RUN)
            if self.images.nbytes > _WHOLE and len(starts) > _RUNS:
                starts = np.linspace(0, len(self) - _RUN, _RUNS).astype(int)
            for start in starts.tolist():
                block = self.images[start : start + _RUN]
                digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 over shapes, images, labels and captions: which data a figure was measured on."""
        digest = hashlib.sha256(repr((self.images.shape, self.levels)).encode())
        for start in range(0, len(self), _BLOCK):
            digest.update(np.ascontiguousarray(self.images[start : start + _BLOCK]).data)
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int32).data)
        digest.update(self.captions.digest() if self.captions else b"")
        return digest.hexdigest()


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        name: its name.
        shape: `(H, W, C)` of images; of other media as they say.
        levels: number of grey levels.
        num_classes: number of classes; 0 for unlabelled data.
        load: `load(split)` for a split in `SPLITS`; `valid` is a held-out part of *train*.
        classes: names of the classes, possibly empty.
        notes: what a user should know of how the data were read: said when training starts.
        captioned: whether its splits have captions.
        attribution: what the licence of the data asks a model's card to say.
        mirrors: whether a mirror image is as true an example; False where captions tell sides (and
            perhaps colours): of turned and recoloured images they are not true, either.
        medium: what examples are: images, videos, ...
        entropy: bits of one example, where they are known; and given its label.
        entropy_of_first: the same of the first frames of a video, by their number.
        stills: the class of videos whose frames are unrelated images; None: there is none.
        scale: of each channel the value of the border below level 0, and the width of a level, in
            units of what was measured; empty where levels are the data.
    """

    name: str
    shape: tuple[int, ...]
    levels: int
    num_classes: int
    load: Callable[[str], Split]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    captioned: bool = False
    mirrors: bool = True
    attribution: str = ""
    medium: Medium = IMAGE
    entropy: tuple[float, float] | None = None
    entropy_of_first: Callable[[int], tuple[float, float]] | None = None
    stills: int | None = None
    scale: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """Raises DataError if this describes no images that a model can have."""
        where = f"data set {self.name!r}"
        shape, whole = tuple(self.shape), (int, np.integer)
        sizes = all(isinstance(n, whole) and n > 0 for n in shape)
        if not sizes or not self.medium.fits(shape):
            raise DataError(f"{where}: shape={self.shape} must be {self.medium.shapes}")
        if not isinstance(self.levels, whole) or not 2 <= self.levels <= 256:
            raise DataError(f"{where}: levels={self.levels} must be a whole number 2 .. 256")
        if not isinstance(self.num_classes, whole) or self.num_classes < 0:
            raise DataError(f"{where}: num_classes={self.num_classes} must be 0 or more")
        if self.classes and len(self.classes) != self.num_classes:
            raise DataError(f"{where}: {len(self.classes)} names of {self.num_classes} classes")
        if len(self.scale) not in (0, shape[-1]):
            raise DataError(f"{where}: {len(self.scale)} scales of {shape[-1]} channels")

    def measured(self, levels: np.ndarray) -> np.ndarray:
        """Levels `[..., C]` in the units of what was measured: the middle of each, float32."""
        low, width = np.asarray(self.scale, np.float64).T
        return (low + (levels + 0.5) * width).astype(np.float32)

    def split(self, name: str) -> Split:
        """Loads a split: `"train"`, `"valid"` or `"test"`.

        Raises:
            DataError: no such split, or it is not what the source declares.
        """
        if name not in SPLITS:
            raise DataError(f"split {name!r} does not exist; choose from {', '.join(SPLITS)}")
        with foreign(f"data set {self.name!r} cannot load {name!r}"):
            loaded = self.load(name)
        found = checked(loaded, self.medium, name)
        if self.captioned != (found.captions is not None):
            raise DataError(f"{found.name}: captioned={self.captioned} is not what was loaded")
        theirs, ours = ((a.levels, a.num_classes) for a in (found, self))
        if (found.shape, *theirs) != (tuple(self.shape), *ours):
            raise DataError(
                f"{found.name}: images of {found.shape}, (levels, classes) {theirs}; data set "
                f"{self.name!r} declares {tuple(self.shape)}, {ours}"
            )
        return found


def class_numbers(source: Source, labels: Iterable[Any]) -> tuple[int, ...]:
    """Classes given as numbers or names, as numbers; one text may hold several names.

    Raises:
        ConfigError: a name that is no class's, or something else than a number or a name.
    """
    out: list[int] = []
    for label in labels:
        if isinstance(label, int | np.integer) and not isinstance(label, bool):
            out.append(int(label))
        elif isinstance(label, str) and label in source.classes:
            out.append(source.classes.index(label))
        elif isinstance(label, str) and "," in label:
            names = (name.strip() for name in label.split(","))
            out += class_numbers(source, (int(n) if n.isdecimal() else n for n in names))
        else:
            known = source.classes
            there = f"classes are {brief(list(known))}" if known else "its classes have no names"
            hint = nearest(label, known) if isinstance(label, str) else ""
            raise ConfigError(f"{source.name} has no class {label!r}{hint}: {there}")
    return tuple(out)


def brief(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) < 200 else f"{text[:200]}..."


def checked(split: Split, medium: Medium = IMAGE, name: str = "") -> Split:
    """Returns `split`.

    Args:
        split: what was loaded.
        medium: what its examples are.
        name: which split of a data set it is, for advice.

    Raises:
        DataError: it is empty, or images or labels are not what they must be.
    """
    if not isinstance(split, Split):
        raise DataError(f"a data set's load() returned {type(split).__name__}, not a Split")
    if not len(split) and name == "train":
        raise DataError(
            f"{split.name} is empty; hold less out of it (holdout=, or valid= and test=), or add "
            "examples"
        )
    if not len(split):
        raise DataError(
            f"{split.name} is empty; hold more out of training (holdout=, or valid= and test=), or "
            "choose another split"
        )
    check_images(split.name, split.images, split.levels, medium)
    check_labels(split.name, split.labels, len(split), split.num_classes)
    if split.captions is not None:
        check_captions(split.name, split.captions, len(split))
    return split


def located(path: str, data_dir: str) -> Path:
    """Where `path` is: relative to `data_dir` if that is set, so that a saved run can move.

    Raises:
        DataError: it is in a bucket, or in the home of no user.
    """
    check_on_disk(path)
    check_on_disk(data_dir)
    return expanded(data_dir, DataError) / expanded(path, DataError)


def check_on_disk(path: str) -> None:
    """Raises DataError for the URL of a bucket."""
    if "://" in path:
        raise DataError(
            f"{path}: data sets are read from a disk; copy it there first, with gcloud storage "
            "rsync --recursive for example (launch.tpu: --data), and name that folder"
        )


def beside(path: Path) -> str:
    """For messages about a missing file: where a relative path was looked for."""
    return "" if path.is_absolute() else f" (from {Path.cwd()}; --config.data_dir names another)"


def hold_out(split: str, images: np.ndarray, labels: np.ndarray, count: int) -> tuple:
    """The images and labels of `train`, or of `valid`: the last `count` training examples.

    Raises:
        DataError: nothing would be left to train on.
    """
    if not 0 <= count < len(images) or count != int(count):
        raise DataError(f"holdout={count} must be a whole number, 0 .. {len(images) - 1}")
    cut = len(images) - count
    part = slice(0, cut) if split == "train" else slice(cut, None)
    return images[part], labels[part]


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)


def indices(step: int, batch: int, n: int, seed: int) -> np.ndarray:
    """Which of `n` examples step `step` (from 0) trains on: int32 `[batch]`.

    Every epoch visits every example once, in an order of its own.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // n
    out = np.empty(batch, np.int32)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        out[chosen] = _permutation(seed, int(epoch), n)[positions[chosen] % n]
    return out


def batch(split: Split, step: int, size: int, seed: int) -> Mapping[str, np.ndarray]:
    """The batch of step `step`: a pure function of (seed, step)."""
    return split.take(indices(step, size, len(split), seed))
