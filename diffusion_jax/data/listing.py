"""The image files of a folder: their order, splits and classes, from their names alone."""

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
        labels: int32 `[N]`; zeros without classes.
        classes: names of the classes; empty for none.
        notes: what of the folder was left aside, and why.
    """

    root: Path
    names: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def part(self, chosen: np.ndarray) -> "Listing":
        """The files where `chosen` (bool `[N]`) holds."""
        names = tuple(n for n, c in zip(self.names, chosen, strict=True) if c)
        return Listing(self.root, names, self.labels[chosen], self.classes)

    def fingerprint(self) -> str:
        """SHA-256 over names, sizes and times of change: whether a folder is what it was."""
        digest = hashlib.sha256()
        for name in self.names:
            found = (self.root / name).stat()
            digest.update(f"{name}:{found.st_size}:{found.st_mtime_ns};".encode())
        return digest.hexdigest()


def _walk(folder: str, prefix: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of files, and of folders with a `/` at the end, without hidden ones.

    Links are followed, as shared disks often hold nothing else; one to a folder it is in is not.

    Args:
        folder: where to look.
        prefix: what comes before the names.
        above: real paths of the folders it is in.

    Yields:
        Paths below `folder`, with `/`.
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


def _sorted_out(root: Path, captions: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The images below a folder, sorted; and notes on whatever else is there.

    Args:
        captions: `BESIDE`, or the file with those of the images; empty for none.
    """
    try:
        found = sorted(_walk(str(root)))
    except OSError as e:
        raise DataError(f"cannot read the folder {root}: {e.strerror}{beside(root)}") from e
    names = tuple(n for n in found if n.lower().endswith(SUFFIXES))
    told = {str(Path(n).with_suffix(".txt")) for n in names} if captions == BESIDE else set()
    others = Counter(
        Path(n).suffix.lower() or "without a suffix"
        for n in found
        if not n.endswith("/") and not n.lower().endswith(SUFFIXES)
        if n not in told and str(root / n) != captions
    )
    full = {n.split("/", 1)[0] for n in names if "/" in n}
    empty = [n[:-1] for n in found if n.endswith("/") and n.count("/") == 1 and n[:-1] not in full]
    each = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    notes = [f"{root.name}: files are ignored, {each} ({', '.join(SUFFIXES)} are read)"] * bool(
        each
    )
    if empty and full:
        notes.append(f"{root.name}: no image in {_few(empty)}, which makes no class")
    return names, tuple(notes)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def listing(root: Path, classes: bool | tuple[str, ...], captions: str = "") -> Listing:
    """Finds the images below a folder.

    Args:
        classes: False for none; True to take them from the subfolders, if there are any; or their
            names, when another split has fixed them.
        captions: `BESIDE`, or the file with those of the images; empty for none.

    Raises:
        DataError: there is no such folder, no image in it, an image beside class folders, or a
            class that was not to be expected.
    """
    names, notes = _sorted_out(root, captions)
    if not names:
        raise DataError(f"there is no image ({', '.join(SUFFIXES)}) in {root}")
    tops = [n.split("/", 1)[0] if "/" in n else "" for n in names]
    found = tuple(sorted(set(tops)))
    if not classes or found == ("",):
        if isinstance(classes, tuple):
            raise DataError(f"{root} has no class folders; train has {_few(list(classes))}")
        return Listing(root, names, np.zeros(len(names), np.int32), (), notes)
    known = found if classes is True else classes
    where = {c: i for i, c in enumerate(known)}
    if "" in found:
        alone = names[tops.index("")]
        raise DataError(
            f"{root} has images beside class folders ({alone}); move them into one, or set "
            "classes=False"
        )
    if not where.keys() >= set(found):
        strange = sorted(set(found) - where.keys())
        raise DataError(f"{root} has classes that train has not: {_few(strange)}")
    return Listing(root, names, np.array([where[t] for t in tops], np.int32), known, notes)


def _place(name: str) -> float:
    """Where a name falls in [0, 1): the same for ever, whatever other files there are."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _split_of(name: str) -> str:
    """The split that a folder is by its name, in any case; empty if it is none."""
    plain = name.lower().replace("-", "_").replace(" ", "_")
    return next((split for split, names in _SPLITS.items() if plain in names), "")


def _split_folders(root: Path, classes: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """The folders that are splits, by split, if the folder has any; and what lies beside them."""
    try:
        with os.scandir(root) as entries:
            found = sorted((e.name, e.is_dir()) for e in entries if e.name[0] != ".")
    except OSError as e:
        raise DataError(f"cannot read the folder {root}: {e.strerror}{beside(root)}") from e
    tops = [name for name, folder in found if folder]
    loose = any(name.lower().endswith(SUFFIXES) for name, folder in found if not folder)
    by: dict[str, list[str]] = {}
    for name in tops:
        by.setdefault(_split_of(name), []).append(name)
    others = [n for n in by.pop("", []) if _sorted_out(root / n)[0]] if by else []
    if not by or (others and "train" not in by):
        return {}, ()  # a class may have the name of a split
    twice = next((names for names in by.values() if len(names) > 1), None)
    if twice:
        raise DataError(f"{root} has the same split twice, {' and '.join(twice)}; keep one")
    if "train" not in by:
        if not classes:
            return {}, ()
        raise DataError(
            f"{root} has no folder train: {', '.join(tops)} look like splits, not like classes; "
            "add train, or name one of them as path"
        )
    if others and len(by) == 1:
        raise DataError(
            f"{root} has {by['train'][0]} beside {_few(others)}: is that a split or a class? If a "
            "class, move all classes into a folder train; if a split, move the others away"
        )
    aside = [f"{root.name}/{name} is ignored: neither train, valid nor test" for name in others]
    if loose:
        aside.append(f"images in {root.name} itself are ignored: the splits are folders")
    return {split: names[0] for split, names in by.items()}, tuple(aside)


def _refuse_splits_below(train: Listing, classes: bool) -> None:
    """Refuses training images with splits further down, whose test images would be trained on."""
    folders = {name.rpartition("/")[0] for name in train.names} - {""}
    # A class may have the name of a split, all of them not; below a class none is to be expected.
    all_splits = train.classes and all(map(_split_of, train.classes))
    for folder in (f.split("/") for f in sorted(folders)):
        below = folder[1:] if classes and not all_splits else folder
        if any(_split_of(f) == "train" for f in below):
            raise DataError(
                f"{train.root} has {'/'.join(folder)}, which looks like a split: name the folder "
                "that holds the splits as path, with classes below them (train/cat, test/cat)"
            )


def splits(
    root: Path, valid: float, test: float, classes: bool, captions: str = ""
) -> tuple[dict[str, Listing], tuple[str, ...]]:
    """The splits of a folder, and notes on where they came from and what was left aside.

    Args:
        root: the folder. If it has a subfolder for training (`train` or `training`, in any case),
            splits are subfolders; those that are missing, or all without it, are cut from the
            training images by a hash of their names.
        valid: part of the training images kept back as `valid`, where there is no such folder.
        test: part of the training images kept back as `test`, likewise.
        classes: whether subfolders (of a split) are classes.
        captions: `BESIDE`, or the name of a file in the folder with those of the images; empty for
            none. What is read is not said to be left aside.

    Raises:
        DataError: the parts are not parts, the folders cannot be told apart, or as for `listing`.
    """
    if min(valid, test) < 0 or valid + test >= 1:
        raise DataError(f"valid={valid}, test={test}: parts of 1 that leave some for training")
    folders, aside = _split_folders(root, classes)
    said = str(root / captions) if captions not in ("", BESIDE) else captions
    train = listing(root / folders["train"] if folders else root, classes, said)
    _refuse_splits_below(train, classes)
    out, rest, low = {}, np.ones(len(train.names), bool), 0.0
    places = np.array([_place(n) for n in train.names])
    notes = []
    for split, part in (("valid", valid), ("test", test)):
        if split in folders:
            out[split] = listing(root / folders[split], train.classes or False, said)
            origin = f"of {root.name}/{folders[split]}"
        else:
            chosen = (places >= low) & (places < low + part)
            out[split], rest, low = train.part(chosen), rest & ~chosen, low + part
            origin = f"of {train.root.name}, {part:.3g} of it by a hash of the names"
        notes.append(f"{split}: {len(out[split].names)} images {origin}")
        aside += out[split].notes
    out["train"] = train.part(rest)
    first = f"train: {len(out['train'].names)} images of {train.root.name}"
    return out, (first, *notes, *aside, *train.notes)
