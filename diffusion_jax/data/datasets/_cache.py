"""A cache of decoded images: folders with `images.npy` (memory-mapped), `labels.npy`, checksums.

It is in `$DIFFUSION_JAX_CACHE`, by default `~/.cache/diffusion_jax`. Damaged entries are noticed
and decoded again.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from diffusion_jax.errors import DataError
from diffusion_jax.runtime.distributed import say

_PREFIX = "decoding-"
_OLD = 24 * 3600  # seconds without changes after which an unfinished folder is abandoned
_FILES, _SEAL = ("images.npy", "labels.npy"), "sums.json"
_BLOCK = 2**24  # bytes per checksum
_CHECKED = 64  # evenly spaced blocks checked at every start, which takes at most about a second


class _Damaged(ValueError):
    pass


def once(final: Path, write: Callable[[Path], None]) -> tuple[np.ndarray, np.ndarray]:
    """The arrays in `final`, which are written first if they are missing or damaged.

    Args:
        final: the folder; its name must identify everything that the arrays depend on.
        write: function that writes `images.npy` and `labels.npy` into a folder.

    Returns:
        `(images, labels)`: uint8, memory-mapped; and int32.

    Raises:
        DataError: the cache cannot be written or read, the images cannot be read, or `write` raised
            it.
    """
    try:
        if final.exists():
            try:
                return _read(final)
            except _Damaged as e:
                say(f"decoded images in {final} are damaged ({e}): decoding them again")
                _discard(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        # Write to a temporary folder and rename it, so that killed or parallel starts leave no
        # incomplete entry.
        _sweep(final.parent)
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=_PREFIX) as scratch:
            part = Path(scratch) / "split"
            part.mkdir()
            write(part)
            sums = {
                n: {"bytes": (part / n).stat().st_size, "sums": _sums(part / n)} for n in _FILES
            }
            (part / _SEAL).write_text(json.dumps(sums))
            try:
                part.rename(final)
            except OSError:
                if not (final / _SEAL).exists():  # otherwise another process was faster
                    raise
        return _read(final)
    except OSError as e:
        raise DataError(
            f"cannot decode images into {final.parent}: {e}; if this folder is full or not "
            "writable, set DIFFUSION_JAX_CACHE to another one; otherwise check the images"
        ) from e
    except _Damaged as e:
        raise DataError(
            f"images just decoded into {final} do not read back ({e}): the disk may be faulty; set "
            "DIFFUSION_JAX_CACHE to a folder on another disk"
        ) from e


def _sums(path: Path, chosen: np.ndarray | None = None) -> list[str]:
    """SHA-256 of all blocks of a file, or of the chosen ones."""
    count = -(-path.stat().st_size // _BLOCK)
    out = []
    with path.open("rb") as f:
        for i in range(count) if chosen is None else chosen.tolist():
            f.seek(i * _BLOCK)
            out.append(hashlib.sha256(f.read(_BLOCK)).hexdigest())
    return out


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays; raises `_Damaged` if they differ from what was written."""
    try:
        seal = json.loads((folder / _SEAL).read_bytes())
        for name in _FILES:
            size, expected = (folder / name).stat().st_size, seal[name]["bytes"]
            if size != expected:
                raise _Damaged(f"{name} has {size} bytes of {expected}")
            sums = seal[name]["sums"]
            checked = np.linspace(0, len(sums) - 1, min(len(sums), _CHECKED)).astype(int)
            if _sums(folder / name, checked) != [sums[i] for i in checked]:
                raise _Damaged(f"the content of {name} has changed")
        images = np.load(folder / _FILES[0], mmap_mode="r")
        return images, np.load(folder / _FILES[1])
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as e:
        raise _Damaged(f"{Path(e.filename or folder).name}: {e.strerror}") from e
    except _Damaged:
        raise
    except (ValueError, KeyError, TypeError, IndexError) as e:
        raise _Damaged(f"{_SEAL} cannot be read") from e


def _discard(folder: Path) -> None:
    """Deletes a folder, renaming it first, because other processes may be looking for it."""
    away = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_PREFIX))
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        folder.rename(away / "damaged")
    shutil.rmtree(away, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes unfinished folders of killed processes if they have not changed for a day."""
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another process may remove or rename it meanwhile
            newest = max(p.stat().st_mtime for p in (left, *left.rglob("*")))
            if newest < time.time() - _OLD:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def growing(path: Path, shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes an npy file of images whose number is not known in advance.

    Args:
        path: the file.
        shape: shape of one image.

    Yields:
        A function that appends uint8 `[N, *shape]`.
    """
    count = 0

    def header() -> None:
        fields = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(f, fields)

    def add(images: np.ndarray) -> None:
        nonlocal count
        f.write(np.ascontiguousarray(images, np.uint8).data)
        count += len(images)

    with path.open("wb") as f:
        header()
        yield add
        f.seek(0)
        header()  # same length as the first: numpy reserves space for the first axis to grow
