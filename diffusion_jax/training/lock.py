"""One writer per work directory."""

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from diffusion_jax.errors import WorkdirError
from diffusion_jax.runtime.storage import is_bucket, write

_LOCK = ".lock"
_WRITER = ".writer"  # names the holder of the lock; in a bucket the lock itself does


@contextmanager
def only_writer(workdir: Path) -> Iterator[Callable[[], None]]:
    """Keeps a second process from writing to `workdir` at the same time.

    On a file system the first process keeps the lock until it ends. A bucket has no lock that ends
    with a killed process, so the last process to start takes over. A process that has lost the lock
    (in a bucket, or because somebody deleted it) notices before it next copies metrics or saves.

    Args:
        workdir: the work directory; created if needed.

    Yields:
        A function to call before writing, which raises `WorkdirError` if another process has taken
        over.

    Raises:
        WorkdirError: another process is writing there, or the directory is not writable.
    """
    mine = f"process {os.getpid()} on {socket.gethostname()}, {uuid.uuid4().hex}\n"
    if is_bucket(workdir):
        _claim(workdir, _LOCK, mine)
        yield lambda: _still(workdir, _LOCK, mine)
        return
    lock = filelock.FileLock(workdir / _LOCK, timeout=0)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as e:
        raise WorkdirError(
            f"{workdir} is being written by {_who(workdir / _WRITER)}; wait for it, stop it, or "
            "use a new --workdir"
        ) from e
    except OSError as e:
        raise WorkdirError(f"cannot write to {workdir}: {e}") from e
    try:
        _claim(workdir, _WRITER, mine)

        def still_alone() -> None:
            if not (workdir / _LOCK).exists():
                raise _overtaken(workdir, "somebody who deleted .lock")
            _still(workdir, _WRITER, mine)

        yield still_alone
    finally:
        lock.release()


def _claim(workdir: Path, name: str, mine: str) -> None:
    try:
        write(workdir / name, mine.encode())
    except Exception as e:  # OSError; a bucket's client has its own exception types
        raise WorkdirError(f"cannot write to {workdir}: {e}") from e


def _still(workdir: Path, name: str, mine: str) -> None:
    try:
        now = (workdir / name).read_text()
    except FileNotFoundError:
        now = f"somebody who deleted {name}"
    if now != mine:
        raise _overtaken(workdir, now.partition(",")[0].strip())


def _overtaken(workdir: Path, by: str) -> WorkdirError:
    return WorkdirError(
        f"{workdir} has been taken over by {by}; this process stops, and discards what it has not "
        "written there yet"
    )


def _who(path: Path) -> str:
    try:
        return path.read_text().partition(",")[0].strip()
    except OSError:
        return "another process"
