"""Checksums of checkpoints, and one writer per work directory.

Orbax restores a flipped byte without a word: every file of a finished checkpoint is listed with its
SHA-256 in `checksums.json` beside it.
"""

import hashlib
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from diffusion_jax.errors import WorkdirError
from diffusion_jax.runtime.storage import files_below, is_bucket, write

NAME = "checksums.json"
_WRITER = ".writer"  # who holds the lock


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Writes the checksums of a finished checkpoint; does nothing if they are there."""
    path = folder / NAME
    if not folder.is_dir() or path.exists():
        return
    sums = {name: _digest(folder / name) for name in files_below(folder) if name != NAME}
    write(path, (json.dumps(sums, indent=0) + "\n").encode())


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
def only_writer(workdir: Path) -> Iterator[Callable[[], None]]:
    """Keeps a second process from writing to `workdir` at the same time.

    On a file system the first process keeps its lock, which ends with it. A bucket has no lock that
    ends with a killed process: there the last one to start takes over, and those before it notice
    that before they next copy metrics or save.

    Args:
        workdir: the work directory; it exists.

    Yields:
        What to call before writing; it raises `WorkdirError` if another process has taken over.

    Raises:
        WorkdirError: another process is writing there.
    """
    if is_bucket(workdir):
        yield _take_over(workdir)
        return
    lock = filelock.FileLock(workdir / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as e:
        raise WorkdirError(
            f"{workdir} is being written by {_writer(workdir)}; wait for it, stop it, or use a new "
            "--workdir"
        ) from e
    try:
        write(workdir / _WRITER, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield lambda: None
    finally:
        lock.release()


def _writer(workdir: Path) -> str:
    try:
        return (workdir / _WRITER).read_text().strip()
    except OSError:
        return "another process"


def _take_over(workdir: Path) -> Callable[[], None]:
    mine = f"process {os.getpid()} on {socket.gethostname()}, {uuid.uuid4().hex}\n"
    write(workdir / ".lock", mine.encode())

    def still_alone() -> None:
        try:
            now = (workdir / ".lock").read_text()
        except FileNotFoundError:
            now = "somebody who deleted .lock"
        if now != mine:
            raise WorkdirError(
                f"{workdir} has been taken over by {now.partition(',')[0].strip()}; this process "
                "stops, and drops what it has not written there yet"
            )

    return still_alone
