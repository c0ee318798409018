"""Checksums of checkpoints, and one writer per work directory.

Orbax restores a flipped byte without a word: every file of a finished checkpoint is listed with its
SHA-256 in `checksums.json` beside it.
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_jax.errors import WorkdirError

NAME = "checksums.json"


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != NAME)


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Writes the checksums of a finished checkpoint; does nothing if they are there."""
    path = folder / NAME
    if not folder.is_dir() or path.exists():
        return
    sums = {p.relative_to(folder).as_posix(): _digest(p) for p in _files(folder)}
    part = path.with_name(NAME + ".part")
    part.write_text(json.dumps(sums, indent=0) + "\n")
    part.replace(path)


def verify(folder: Path) -> None:
    """Compares a checkpoint with its checksums.

    Args:
        folder: a checkpoint folder; one without checksums (the process was killed before it wrote
            them) is left to the reader.

    Raises:
        OSError: a file is missing, or holds other bytes; the message names it.
    """
    path = folder / NAME
    if not path.exists():
        return
    try:
        sums = json.loads(path.read_text())
    except ValueError as e:
        raise OSError(f"{NAME} cannot be read: {e}") from e
    for name, wanted in sums.items():
        if not (folder / name).is_file():
            raise OSError(f"{name} is missing")
        if _digest(folder / name) != wanted:
            raise OSError(f"{name} does not have the bytes that were written")


@contextmanager
def only_writer(workdir: Path) -> Iterator[None]:
    """Keeps a second process from writing to `workdir` at the same time.

    Args:
        workdir: the work directory; it exists.

    Yields:
        Nothing.

    Raises:
        WorkdirError: another process is writing there.
    """
    import fcntl

    with (workdir / ".lock").open("a+") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            f.seek(0)
            who = f.read().strip() or "another process"
            raise WorkdirError(
                f"{workdir} is being written by {who}; wait for it, stop it, or use a new --workdir"
            ) from e
        f.truncate(0)
        f.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        f.flush()
        yield
