"""The contract of a data set, and the order in which its examples are visited.

A data plug-in's `make(...)` returns a `Source`. The order is a pure function of (seed, step), so a
checkpoint needs no state for it.
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
_BLOCK = 4096  # images read together
_WHOLE = 2**28  # bytes of images up to which a sketch covers all of them
_RUNS, _RUN = 64, 64  # larger sets: number of runs, and images per run (disks are slow to seek)


@dataclass(frozen=True)
class Split:
    """Examples that can be indexed.

    Attributes:
        name: data set and split, for messages and records.
        images: uint8 `[N, H, W, C]`, or the layout of another medium: an array, a memory map, or an
            object that reads the images it is indexed with. Such an object may have
            `read(indices) -> (images, used)` if it replaces damaged examples by others, `skipped`
            (the number replaced), and `sketch() -> bytes` (a digest).
        labels: int32 `[N]`.
        levels: number of levels; images hold integers 0 .. levels-1.
        num_classes: number of classes; labels hold 0 .. num_classes-1. 0 for unlabelled data.
        captions: captions of the images, or None.
        embedding: vectors that the network is conditioned on, float32 `[N, D]`, or None.
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
        """Shape of one example; `(H, W, C)` for images."""
        return tuple(self.images.shape[1:])

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `indices`.

        Returns:
            `{"image": uint8 [B, H, W, C], "label": int32 [B]}`, with `"embedding"` and the entries
            of `Captions.rows` if there are any.
        """
        if hasattr(self.images, "read"):
            images, indices = self.images.read(indices)
        else:
            images = np.asarray(self.images[indices])
        return {"image": images, "label": self.labels[indices], **self._text(indices)}

    def _text(self, indices: Any = slice(None)) -> dict[str, np.ndarray]:
        rows = {} if self.embedding is None else {"embedding": self.embedding[indices]}
        return rows if self.captions is None else {**rows, **self.captions.rows(indices)}

    def everything(self) -> dict[str, np.ndarray]:
        """All examples in memory, as returned by `take`."""
        if not hasattr(self.images, "read"):
            return {"image": np.asarray(self.images), "label": self.labels, **self._text()}
        parts = []
        with progress(f"read {self.name}", len(self)) as bar:
            for start in range(0, len(self), _BLOCK):
                parts.append(self.take(np.arange(start, min(start + _BLOCK, len(self)))))
                bar.at(start + len(parts[-1]["label"]))
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}

    def loaded(self, indices: np.ndarray | None = None) -> "Split":
        """The examples at `indices`, or all examples, in memory.

        Examples that replace damaged ones come with their own labels and captions.
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
        """Like `everything`, but with each distinct text once, in the table `captions.TEXTS`.

        `"caption"` holds rows of this table; see `captions.looked_up`.
        """
        if self.captions is None or self.captions.ids is None:
            return self.everything()
        plain = dataclasses.replace(self, captions=dataclasses.replace(self.captions, ids=None))
        return {**plain.everything(), TEXTS: self.captions.ids}

    @property
    def nbytes(self) -> int:
        """Size of `whole` without labels."""
        ids = None if self.captions is None else self.captions.ids
        return sum(a.nbytes for a in (self.images, ids, self.embedding) if a is not None)

    @property
    def skipped(self) -> int:
        """Number of damaged examples replaced so far on this host."""
        return getattr(self.images, "skipped", 0)

    def sketch(self) -> str:
        """A quick digest of all labels and captions, and of the images.

        For large sets it covers some of the images only; for image files, all names and the content
        of some files.
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
        """SHA-256 over shapes, images, labels and captions, to record which data were measured."""
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
        name: name of the data set.
        shape: shape of an example; `(H, W, C)` for images.
        levels: number of grey levels.
        num_classes: number of classes; 0 for unlabelled data.
        load: `load(split)` for a split in `SPLITS`; `valid` is a held-out part of *train*.
        classes: names of the classes, or empty.
        notes: information on how the data were read, printed when training starts.
        captioned: whether splits have captions.
        attribution: attribution that the data's licence requires in a model card.
        mirrors: whether mirror images are valid examples. False if captions mention left and right;
            rotated and recoloured images are then not valid either.
        medium: kind of the examples: images, videos, ...
        entropy: bits per example, and bits per example given its label; None if unknown.
        entropy_of_first: `entropy` of the first frames of a video, as a function of their number.
        stills: class of videos whose frames are unrelated images, or None.
        scale: one pair for each channel: the lower border of level 0 and the width of a level, in
            physical units; empty if the levels are the data.
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
        """Raises DataError if a field is not valid."""
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
            raise DataError(f"{where}: {len(self.classes)} names for {self.num_classes} classes")
        if len(self.scale) not in (0, shape[-1]):
            raise DataError(f"{where}: {len(self.scale)} scales for {shape[-1]} channels")

    def measured(self, levels: np.ndarray) -> np.ndarray:
        """Converts levels `[..., C]` to physical units: the centre of each level, float32."""
        low, width = np.asarray(self.scale, np.float64).T
        return (low + (levels + 0.5) * width).astype(np.float32)

    def split(self, name: str) -> Split:
        """Loads a split: `"train"`, `"valid"` or `"test"`.

        Raises:
            DataError: the split does not exist, or differs from what the source declares.
        """
        if name not in SPLITS:
            raise DataError(f"split {name!r} does not exist; choose from {', '.join(SPLITS)}")
        with foreign(f"data set {self.name!r} cannot load {name!r}"):
            loaded = self.load(name)
        split = checked(loaded, self.medium, name)
        if self.captioned != (split.captions is not None):
            raise DataError(
                f"{split.name}: captioned={self.captioned} does not agree with the loaded split"
            )
        loaded_counts, declared = ((a.levels, a.num_classes) for a in (split, self))
        if (split.shape, *loaded_counts) != (tuple(self.shape), *declared):
            raise DataError(
                f"{split.name}: images of {split.shape}, (levels, classes) {loaded_counts}; data "
                f"set {self.name!r} declares {tuple(self.shape)}, {declared}"
            )
        return split


def class_numbers(source: Source, labels: Iterable[Any]) -> tuple[int, ...]:
    """Converts classes given by number or name to numbers; "cat, dog" stands for two classes.

    Raises:
        ConfigError: a name is unknown, or an entry is neither a number nor a name.
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
            names = source.classes
            known = f"classes are {brief(list(names))}" if names else "its classes have no names"
            hint = nearest(label, names) if isinstance(label, str) else ""
            raise ConfigError(f"{source.name} has no class {label!r}{hint}: {known}")
    return tuple(out)


def brief(value: Any) -> str:
    """A value as text for a message, truncated if it is long."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) < 200 else f"{text[:200]}..."


def checked(split: Split, medium: Medium = IMAGE, name: str = "") -> Split:
    """Returns `split` after checking it.

    Args:
        split: what `load` returned.
        medium: kind of its examples.
        name: `"train"`, `"valid"` or `"test"`, for the advice in messages.

    Raises:
        DataError: the split is empty, or its images, labels or captions are not valid.
    """
    if not isinstance(split, Split):
        raise DataError(f"a data set's load() returned {type(split).__name__}, not a Split")
    if not len(split) and name == "train":
        raise DataError(
            f"{split.name} is empty; reduce holdout= (or valid= and test=), or add examples"
        )
    if not len(split):
        raise DataError(
            f"{split.name} is empty; increase holdout= (or valid= and test=), or choose another "
            "split"
        )
    check_images(split.name, split.images, split.levels, medium)
    check_labels(split.name, split.labels, len(split), split.num_classes)
    if split.captions is not None:
        check_captions(split.name, split.captions, len(split))
    return split


def located(path: str, data_dir: str) -> Path:
    """Resolves `path` relative to `data_dir` if that is set, so that a saved run can be moved.

    Raises:
        DataError: the path is in a bucket, or its home directory is unknown.
    """
    check_on_disk(path)
    check_on_disk(data_dir)
    return expanded(data_dir, DataError) / expanded(path, DataError)


def check_on_disk(path: str) -> None:
    """Raises DataError if `path` is the URL of a bucket."""
    if "://" in path:
        raise DataError(
            f"{path}: data sets must be on a local disk; copy it first, for example with gcloud "
            "storage rsync --recursive (launch.tpu: --data), and give the path of the copy"
        )


def beside(path: Path) -> str:
    """Says where a relative path was looked for, for messages about a missing file."""
    return "" if path.is_absolute() else f" (from {Path.cwd()}; --config.data_dir sets another)"


def hold_out(split: str, images: np.ndarray, labels: np.ndarray, count: int) -> tuple:
    """The images and labels of `train` or `valid`; `valid` is the last `count` training examples.

    Raises:
        DataError: `count` is negative, not whole, or leaves nothing to train on.
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
    """Indices of the examples, out of `n`, for training step `step` (from 0): int32 `[batch]`.

    Every epoch visits every example once, in a new order.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    epochs = positions // n
    out = np.empty(batch, np.int32)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        out[chosen] = _permutation(seed, int(epoch), n)[positions[chosen] % n]
    return out


def batch(split: Split, step: int, size: int, seed: int) -> Mapping[str, np.ndarray]:
    """The batch of step `step`, a pure function of (seed, step)."""
    return split.take(indices(step, size, len(split), seed))
