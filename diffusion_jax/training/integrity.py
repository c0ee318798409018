"""Checksums of checkpoints, to tell damaged files from other read errors.

Orbax restores a flipped byte without an error. Every file of a checkpoint is therefore listed with
its SHA-256 in `checksums.json`, which is written before the checkpoint gets its final name. Only
files that differ from that list count as damaged; a disk that does not respond, missing permissions
or a device that is out of memory do not mean that a checkpoint is damaged.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import tensorstore as ts
from absl import logging

from diffusion_jax.errors import CheckpointError, UserError, out_of_memory, short
from diffusion_jax.runtime.storage import files_below, write

NAME = "checksums.json"
ARRAYS = ("train", "ema")  # the items of a checkpoint that hold arrays
_LATER = ("_CHECKPOINT_METADATA", "commit_success.txt", NAME)  # orbax writes them at the very end


class Damaged(CheckpointError):
    """A checkpoint does not hold what was written."""


def saved_tree(reader: ocp.PyTreeCheckpointer, item: Path) -> Any:
    """The tree of an item's arrays, from its metadata; raises `Damaged` if there are none."""
    metadata = reader.metadata(item).item_metadata
    if metadata is None:
        raise Damaged(f"the metadata of {item.name} cannot be read")
    return metadata.tree


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _check_complete(item: Path) -> None:
    """Raises `Damaged` unless all arrays of a new item are in its store."""
    with ocp.PyTreeCheckpointer() as reader:
        arrays = len(jax.tree.leaves(saved_tree(reader, item)))
    local = {"driver": "file", "path": f"{item}/"}  # not a URL, where % and # are special
    where = {"driver": "ocdbt", "base": f"{item}/" if "://" in str(item) else local}
    stored = ts.KvStore.open(where).result().list().result()
    found = sum(key.endswith(b"/.zarray") for key in stored)
    if found != arrays:
        raise Damaged(f"{item.name} has {found} of {arrays} arrays")


def seal(folder: Path) -> None:
    """Writes the checksums of a checkpoint, after checking that its arrays are complete."""
    for name in ARRAYS:
        _check_complete(folder / name)
    names = [name for name in files_below(folder) if name not in _LATER]
    sums = {name: _digest(folder / name) for name in names}
    write(folder / NAME, (json.dumps(sums, indent=0) + "\n").encode())


def verify(folder: Path) -> bool:
    """Compares a checkpoint with its checksums.

    Returns:
        Whether it has checksums. If not, a warning is logged and every file is read once.

    Raises:
        Damaged: a file is missing or differs; the message names it.
    """
    try:
        sums = json.loads((folder / NAME).read_bytes())
    except FileNotFoundError:
        logging.warning("checkpoint %s has no checksums: damage may go unnoticed", folder)
        for name in files_below(folder):
            _digest(folder / name)
        return False
    except (IsADirectoryError, ValueError) as e:
        raise Damaged(f"{NAME} cannot be read: {e}") from e
    if not isinstance(sums, dict) or not sums:
        raise Damaged(f"{NAME} is not a list of checksums")
    for name, wanted in sums.items():
        try:
            found = _digest(folder / name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as e:
            raise Damaged(f"{name} is missing") from e
        if found != wanted:
            raise Damaged(f"{name} does not have the bytes that were written")
    return True


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Verifies a checkpoint, and converts errors of the code that reads it inside the block.

    Yields:
        Nothing.

    Raises:
        Damaged: the files are damaged.
        CheckpointError: reading failed for another reason; the checkpoint may be intact.
    """
    sealed = True
    try:
        sealed = verify(folder)
        yield
    except UserError:  # it already has a clear message, for example about a missing data set
        raise
    except Exception as e:  # orbax and tensorstore raise many types for damaged files
        if not sealed and not out_of_memory(e) and not isinstance(e, PermissionError):
            raise Damaged(short(e)) from e
        raise CheckpointError(
            f"cannot read checkpoint {folder}: {short(e)}; its files do not seem to be damaged and "
            "were left in place: fix the problem and run the command again"
        ) from e
