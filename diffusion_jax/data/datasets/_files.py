"""The image files of a folder: their order, splits and classes, from their names alone."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FOLDERS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Listing:
    """Image files below a folder.

    Attributes:
        root: the folder.
        names: paths below it with `/`, sorted.
        labels: int32 `[N]`; zeros without classes.
        classes: names of the classes; empty for none.
    """

    root: Path
    names: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]

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


def _walk(folder: str, prefix: str = "") -> Iterator[str]:
    """Names of image files, without a call to the file system per file; hidden ones are left out.

    Links are followed, as shared disks often hold nothing else.

    Args:
        folder: where to look.
        prefix: what comes before the names.

    Yields:
        Paths below `folder`, with `/`.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = prefix + entry.name
            if entry.is_dir():
                yield from _walk(entry.path, name + "/")
            elif name.lower().endswith(SUFFIXES):
                yield name


def listing(root: Path, classes: bool | tuple[str, ...]) -> Listing:
    """Finds the images below a folder.

    Args:
        classes: False for none; True to take them from the subfolders, if there are any; or their
            names, when another split has fixed them.

    Returns:
        The files, sorted by name.

    Raises:
        DataError: there is no such folder, no image in it, an image beside class folders, or a
            class that was not to be expected.
    """
    try:
        names = tuple(sorted(_walk(str(root))))
    except OSError as e:
        raise DataError(f"cannot read the folder {root}: {e.strerror}") from e
    if not names:
        raise DataError(f"there is no image ({', '.join(SUFFIXES)}) in {root}")
    tops = [n.split("/", 1)[0] if "/" in n else "" for n in names]
    found = tuple(sorted(set(tops)))
    if not classes or found == ("",):
        return Listing(root, names, np.zeros(len(names), np.int32), ())
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
        raise DataError(f"{root} has classes that train has not: {', '.join(strange[:5])}")
    return Listing(root, names, np.array([where[t] for t in tops], np.int32), known)


def _place(name: str) -> float:
    """Where a name falls in [0, 1): the same for ever, whatever other files there are."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def splits(root: Path, valid: float, test: float, classes: bool) -> dict[str, Listing]:
    """The splits of a folder.

    Args:
        root: the folder. With a subfolder `train`, splits are subfolders (`train`, `valid` or
            `val`, `test`); those that are missing, or all without `train`, are cut from the
            training images by a hash of their names.
        valid: part of the training images kept back as `valid`, where there is no such folder.
        test: part of the training images kept back as `test`, likewise.
        classes: whether subfolders (of a split) are classes.

    Returns:
        `train`, `valid` and `test`.

    Raises:
        DataError: the parts are not parts, or as for `listing`.
    """
    if min(valid, test) < 0 or valid + test >= 1:
        raise DataError(f"valid={valid}, test={test}: parts of 1 that leave some for training")
    split_folders = (root / "train").is_dir()
    train = listing(root / "train" if split_folders else root, classes)
    out, rest, low = {}, np.ones(len(train.names), bool), 0.0
    places = np.array([_place(n) for n in train.names])
    for split, part in (("valid", valid), ("test", test)):
        folders = [root / f for f in _FOLDERS[split] if split_folders and (root / f).is_dir()]
        if folders:
            out[split] = listing(folders[0], train.classes if train.classes else False)
        else:
            chosen = (places >= low) & (places < low + part)
            out[split], rest, low = train.part(chosen), rest & ~chosen, low + part
    return {"train": train.part(rest), **out}
