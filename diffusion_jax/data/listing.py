"""The image files of a folder: order, splits and classes, determined by names alone."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import beside
from diffusion_jax.errors import DataError

BESIDE = "txt"  # captions are in text files beside the images
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_SPLITS = {
    "train": ("train", "training", "trainset", "train_set"),
    "valid": ("valid", "val", "validation", "validate", "dev", "validset", "valid_set", "val_set"),
    "test": ("test", "testing", "testset", "test_set"),
}


@dataclass(frozen=True)
class Listing:
    """Image files below a folder.

    Attributes:
        root: the folder.
        names: paths below it with `/`, sorted.
        labels: int32 `[N]`; zeros if there are no classes.
        classes: names of the classes; empty for none.
        notes: what was ignored in the folder, and why.
    """

    root: Path
    names: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def part(self, chosen: np.ndarray) -> "Listing":
        """The files for which `chosen` (bool `[N]`) is True."""
        names = tuple(n for n, c in zip(self.names, chosen, strict=True) if c)
        return Listing(self.root, names, self.labels[chosen], self.classes)

    def fingerprint(self) -> str:
        """SHA-256 over names, sizes and modification times, to notice changes of a folder."""
        digest = hashlib.sha256()
        for name in self.names:
            stat = (self.root / name).stat()
            digest.update(f"{name}:{stat.st_size}:{stat.st_mtime_ns};".encode())
        return digest.hexdigest()


def _walk(folder: str, prefix: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Walks a folder, skipping hidden entries.

    Links are followed, because data on shared disks are often links, except links to a folder that
    contains them.

    Args:
        folder: folder to walk.
        prefix: prefix for all names.
        above: real paths of the folders that contain `folder`.

    Yields:
        Paths below `folder` with `/` as separator; folders end in `/`.
    """
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = prefix + entry.name
            if not entry.is_dir():
                yield name
            elif not (entry.is_symlink() and os.path.realpath(entry.path) in above):
                yield name + "/"
                yield from _walk(entry.path, name + "/", above)


def _find_images(root: Path, captions: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The images below a folder, sorted, and notes on ignored files and folders.

    Args:
        root: the folder.
        captions: `BESIDE`, or the caption file; empty for none.
    """
    try:
        entries = sorted(_walk(str(root)))
    except OSError as e:
        raise DataError(f"cannot read the folder {root}: {e.strerror}{beside(root)}") from e
    names = tuple(n for n in entries if n.lower().endswith(SUFFIXES))
    texts = {str(Path(n).with_suffix(".txt")) for n in names} if captions == BESIDE else set()
    others = Counter(
        Path(n).suffix.lower() or "without a suffix"
        for n in entries
        if not n.endswith("/") and not n.lower().endswith(SUFFIXES)
        if n not in texts and str(root / n) != captions
    )
    tops = [n[:-1] for n in entries if n.endswith("/") and n.count("/") == 1]
    with_images = {n.split("/", 1)[0] for n in names if "/" in n}
    empty = [n for n in tops if n not in with_images]
    notes = []
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        notes.append(
            f"{root.name}: ignored files: {counts} (images have the endings {', '.join(SUFFIXES)})"
        )
    if empty and with_images:
        notes.append(f"{root.name}: ignored folders without images: {_few(empty)}")
    return names, tuple(notes)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def listing(root: Path, classes: bool | tuple[str, ...], captions: str = "") -> Listing:
    """Finds the images below a folder.

    Args:
        root: the folder.
        classes: False for no classes; True to use the subfolders, if any, as classes; or the names
            of the classes, if another split has fixed them.
        captions: `BESIDE`, or the caption file; empty for none.

    Raises:
        DataError: the folder does not exist, holds no image, holds an image beside class folders,
            or has an unexpected class.
    """
    names, notes = _find_images(root, captions)
    if not names:
        raise DataError(f"there is no image ({', '.join(SUFFIXES)}) in {root}")
    tops = [n.split("/", 1)[0] if "/" in n else "" for n in names]
    folders = tuple(sorted(set(tops)))
    if not classes or folders == ("",):
        if isinstance(classes, tuple):
            raise DataError(f"{root} has no class folders; train has {_few(list(classes))}")
        return Listing(root, names, np.zeros(len(names), np.int32), (), notes)
    known = folders if classes is True else classes
    number = {c: i for i, c in enumerate(known)}
    if "" in folders:
        loose = names[tops.index("")]
        raise DataError(
            f"{root} has images beside class folders ({loose}); move them into one, or set "
            "classes=False"
        )
    unknown = sorted(set(folders) - number.keys())
    if unknown:
        raise DataError(f"{root} has classes that are not in train: {_few(unknown)}")
    return Listing(root, names, np.array([number[t] for t in tops], np.int32), known, notes)


def _place(name: str) -> float:
    """A number in [0, 1) that depends on the name only, not on the other files."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _split_of(name: str) -> str:
    """The split that a folder's name stands for, ignoring case; empty if none."""
    plain = name.lower().replace("-", "_").replace(" ", "_")
    return next((split for split, names in _SPLITS.items() if plain in names), "")


def _split_folders(root: Path, classes: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """The subfolders that hold splits, by split, and notes on what is ignored beside them.

    Returns:
        An empty dict if the folder is not divided into splits.
    """
    try:
        with os.scandir(root) as scan:
            entries = sorted((e.name, e.is_dir()) for e in scan if e.name[0] != ".")
    except OSError as e:
        raise DataError(f"cannot read the folder {root}: {e.strerror}{beside(root)}") from e
    folders = [name for name, is_folder in entries if is_folder]
    loose = any(name.lower().endswith(SUFFIXES) for name, is_folder in entries if not is_folder)
    by_split: dict[str, list[str]] = {}
    for name in folders:
        by_split.setdefault(_split_of(name), []).append(name)
    others = by_split.pop("", [])
    if not by_split:
        return {}, ()
    others = [name for name in others if _find_images(root / name)[0]]
    if others and "train" not in by_split:
        return {}, ()  # these are classes, one of which has the name of a split
    twice = next((names for names in by_split.values() if len(names) > 1), None)
    if twice:
        raise DataError(f"{root} has the same split twice, {' and '.join(twice)}; keep one")
    if "train" not in by_split:
        if not classes:
            return {}, ()
        raise DataError(
            f"{root} has no folder train: {', '.join(folders)} look like splits, not like classes; "
            "add train, or set path to one of them"
        )
    if others and len(by_split) == 1:
        raise DataError(
            f"{root} has {by_split['train'][0]} beside {_few(others)}: is that a split or a class? "
            "If a class, move all classes into a folder train; if a split, move the others away"
        )
    notes = [f"{root.name}/{name} is ignored: neither train, valid nor test" for name in others]
    if loose:
        notes.append(f"images in {root.name} itself are ignored: the splits are folders")
    return {split: names[0] for split, names in by_split.items()}, tuple(notes)


def _refuse_splits_below(train: Listing, classes: bool) -> None:
    """Checks that no split folders are nested in the training folder.

    Raises:
        DataError: they are; their test images would be used for training.
    """
    folders = {name.rpartition("/")[0] for name in train.names} - {""}
    # One class may be named like a split, but not all of them; inside a class folder no split is
    # expected.
    all_splits = train.classes and all(map(_split_of, train.classes))
    for folder in (f.split("/") for f in sorted(folders)):
        below = folder[1:] if classes and not all_splits else folder
        if any(_split_of(f) == "train" for f in below):
            raise DataError(
                f"{train.root} has {'/'.join(folder)}, which looks like a split: set path to the "
                "folder that holds the splits, with classes inside them (train/cat, test/cat)"
            )


def splits(
    root: Path, valid: float, test: float, classes: bool, captions: str = ""
) -> tuple[dict[str, Listing], tuple[str, ...]]:
    """The splits of a folder, and notes on where they came from and what was ignored.

    Args:
        root: the folder. If it has a subfolder for training (`train` or `training`, ignoring case),
            splits are subfolders. Missing splits are cut from the training images by a hash of
            their names, and so are all splits if there is no such subfolder.
        valid: fraction of the training images held out as `valid`, if that has no folder.
        test: fraction of the training images held out as `test`, if that has no folder.
        classes: whether subfolders (of a split) are classes.
        captions: `BESIDE`, or the name of the caption file in the folder; empty for none.

    Raises:
        DataError: the fractions are not valid, the folders are ambiguous, or as for `listing`.
    """
    if min(valid, test) < 0 or valid + test >= 1:
        raise DataError(
            f"valid={valid}, test={test}: must be fractions of 1 that leave some for training"
        )
    folders, ignored = _split_folders(root, classes)
    caption_file = str(root / captions) if captions not in ("", BESIDE) else captions
    train = listing(root / folders["train"] if folders else root, classes, caption_file)
    _refuse_splits_below(train, classes)
    out, rest, low = {}, np.ones(len(train.names), bool), 0.0
    places = np.array([_place(n) for n in train.names])
    notes = []
    for split, part in (("valid", valid), ("test", test)):
        if split in folders:
            out[split] = listing(root / folders[split], train.classes or False, caption_file)
            origin = f"of {root.name}/{folders[split]}"
        else:
            chosen = (places >= low) & (places < low + part)
            out[split], rest, low = train.part(chosen), rest & ~chosen, low + part
            origin = f"of {train.root.name}, {part:.3g} of it by a hash of the names"
        notes.append(f"{split}: {len(out[split].names)} images {origin}")
        ignored += out[split].notes
    out["train"] = train.part(rest)
    first = f"train: {len(out['train'].names)} images of {train.root.name}"
    return out, (first, *notes, *ignored, *train.notes)
