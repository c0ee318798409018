"""Work directories on disk or in a bucket (`gs://bucket/run`): paths, and atomic writes.

Everything that reads or writes a work directory uses this module. Files are written atomically:
readers see the old file or the new one, never a part, also if the run is killed.
"""

import contextlib
import functools
import importlib
import io
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.runtime.formatting import json_text
from diffusion_jax.runtime.home import expanded

_SCHEME = "gs://"
_NAME_MAX = 255
_SECONDS = 30.0  # time limit for the first response of a bucket
_PATIENCE = 300.0  # seconds to wait for another process that writes a result
_EMULATOR = "STORAGE_EMULATOR_HOST"  # the address of an emulated service, which needs no login


def is_bucket(where: str | os.PathLike) -> bool:
    """Whether `where` is in a bucket, not on this machine."""
    return os.fspath(where).startswith(_SCHEME)


def place(where: str | os.PathLike) -> Path:
    """The path of a file or folder.

    Args:
        where: a path, absolute or relative to the current folder, or `gs://...`.

    Returns:
        An absolute `pathlib.Path`, or a bucket path with the same interface.

    Raises:
        ConfigError: another scheme, a package is missing, or the bucket does not respond.
    """
    if not isinstance(where, str | os.PathLike):
        raise ConfigError(f"{where!r} is not a path: give the name of a folder or file in quotes")
    text = os.fspath(where)
    if "\0" in text:
        raise ConfigError(f"cannot use the path {text!r}: it contains a zero byte")
    if not is_bucket(text):
        if "://" in text:
            raise ConfigError(f"cannot use {text}: give a folder, or {_SCHEME}bucket/folder")
        longest = max(map(os.fsencode, Path(text).parts), key=len, default=b"")
        if len(longest) > _NAME_MAX:
            start = os.fsdecode(longest[:20])
            raise ConfigError(
                f"cannot use a path with a name of {len(longest)} bytes in it, {start}...: file "
                f"systems take {_NAME_MAX}"
            )
        path = expanded(text).absolute()
        return path.resolve() if ".." in path.parts else path
    bucket = text.removeprefix(_SCHEME).partition("/")[0]
    if not bucket:
        raise ConfigError(f"{text} names no bucket: write {_SCHEME}bucket/folder")
    _reach(bucket)
    from etils import epath

    return epath.Path(text)


@functools.cache
def _reach(bucket: str) -> None:
    """Asks for one object of the bucket, so that problems are reported at once and in one line."""
    emulated = bool(os.environ.get(_EMULATOR))
    if emulated:
        # The same address for all three clients: gcsfs, tensorstore, google-cloud-storage.
        os.environ.setdefault("TENSORSTORE_GCS_HTTP_URL", os.environ[_EMULATOR])
        os.environ.setdefault("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # A stalled transfer is aborted and retried instead of hanging forever.
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", "60")
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "256")
    try:
        import fsspec

        importlib.import_module("gcsfs")
        storage = importlib.import_module("google.cloud.storage")
    except ImportError as e:
        raise ConfigError(
            f"{_SCHEME} needs packages that are not installed ({e}): pip install -e '.[gcs]'"
        ) from e
    # Orbax and tensorstore write without gcsfs, so its listings must not be cached.
    settings = fsspec.config.conf.setdefault("gcs", {})
    settings.update({"use_listings_cache": False} | ({"token": "anon"} if emulated else {}))
    answer: list = []

    def ask() -> None:
        try:
            client = storage.Client()
            client.get_bucket(bucket)  # as orbax will, before it deletes an old checkpoint
            next(iter(client.list_blobs(bucket, max_results=1)), None)
            answer.append(None)
        except BaseException as e:
            answer.append(e)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    problem = answer[0] if answer else TimeoutError(f"no response within {_SECONDS:.0f} s")
    if problem is not None:
        text = " ".join(str(problem).split())[:200].rstrip(".") or type(problem).__name__
        text = "there is no such bucket" if getattr(problem, "code", 0) == 404 else text
        raise ConfigError(
            f"cannot read {_SCHEME}{bucket}: {text}; check the name, the network and the login "
            "(gcloud auth application-default login, or the service account of this machine)"
        ) from problem


def write(path: Path, data: bytes) -> None:
    """Writes a file atomically, and creates its folder.

    Args:
        path: path from `place`.
        data: contents of the file.
    """
    if is_bucket(path):
        path.write_bytes(data)  # objects in buckets are written atomically
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A unique name, because two processes may write at once.
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_arrays(path: Path, compressed: bool = True, **arrays: Any) -> None:
    """Writes an npz file.

    Args:
        path: path from `place`.
        compressed: whether to compress, which is smaller and slower to write.
        **arrays: arrays by name.
    """
    into = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(into, **arrays)
    write(path, into.getvalue())


def write_picture(path: Path, picture: Any, **how: Any) -> None:
    """Writes a picture, as PNG unless `format` is given.

    Args:
        path: path from `place`.
        picture: an object with `save` (Pillow) or `savefig` (matplotlib).
        **how: further arguments of that method.
    """
    into = io.BytesIO()
    save = picture.savefig if hasattr(picture, "savefig") else picture.save
    save(into, **{"format": "png", **how})
    write(path, into.getvalue())


def modified(path: Path) -> float:
    """Time at which a file was last written, in seconds; in a bucket, rounded to whole seconds."""
    stat = path.stat()
    return stat.mtime if is_bucket(path) else stat.st_mtime_ns / 1e9


def size(path: Path) -> int:
    """Size of a file in bytes."""
    stat = path.stat()
    return stat.length if is_bucket(path) else stat.st_size


def files_below(folder: Path) -> list[str]:
    """The paths of all files in a folder and its subfolders, relative to it, sorted."""
    if not is_bucket(folder):
        return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    root = f"{folder}/".removeprefix(_SCHEME)
    files = (f"{where}/{n}" for where, _, names in folder.walk() for n in names)
    return sorted(f.removeprefix(_SCHEME).removeprefix(root) for f in files)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from choosing a name in `folder` at the same time.

    Code that looks for a free name and then writes to it does both inside this block. In buckets
    and on file systems without locks, two processes may still choose the same name.
    """
    if is_bucket(folder):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock", timeout=_PATIENCE)
    try:
        with contextlib.suppress(OSError, NotImplementedError, filelock.Timeout):
            lock.acquire()
        yield
    finally:
        if lock.is_locked:  # waiting processes notice this and make another
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def as_json(values: Any) -> bytes:
    """The bytes that `write_json` writes."""
    return (json_text(values, indent=1) + "\n").encode()


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file atomically."""
    write(path, as_json(values))
