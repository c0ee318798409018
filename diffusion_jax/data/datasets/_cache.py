"""Images decoded once: a folder with `images.npy` (memory-mapped), `labels.npy` and their sums.

Under `$DIFFUSION_JAX_CACHE`, by default `~/.cache/diffusion_jax`. What is damaged there is noticed
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
_OLD = 24 * 3600  # seconds after which nobody writes there any more
_FILES, _SEAL = ("images.npy", "labels.npy"), "sums.json"
_BLOCK = 2**24  # bytes that have a sum of their own
_LOOKED_AT = 64  # blocks whose sums are compared at every start, evenly spread: a second or less


class _Damaged(ValueError):
    pass


def once(final: Path, write: Callable[[Path], None]) -> tuple[np.ndarray, np.ndarray]:
    """The arrays in `final`, which are written first if they are not there or damaged.

    Args:
        final: the folder; its name must say everything that the arrays depend on.
        write: writes `images.npy` and `labels.npy` into the folder it is given.

    Returns:
        `(images, labels)`: uint8, memory-mapped; and int32.

    Raises:
        DataError: the cache cannot be written or read, the source not read, or `write` raised it.
    """
    try:
        if final.exists():
            try:
                return _read(final)
            except _Damaged as e:
                say(f"decoded images in {final} are damaged ({e}): decoding them again")
                _discard(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        # A folder of our own, renamed when complete: a killed or parallel start leaves no half.
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
                if not (final / _SEAL).exists():  # else another process was faster
                    raise
        return _read(final)
    except OSError as e:
        raise DataError(
            f"cannot decode the images into {final.parent}: {e}; if it is this folder that is "
            "full or cannot be written, set DIFFUSION_JAX_CACHE to another, else mend what is "
            "read"
        ) from e
    except _Damaged as e:
        raise DataError(
            f"images that were just decoded into {final} do not read back ({e}): that disk is not "
            "sound; set DIFFUSION_JAX_CACHE to a folder on another"
        ) from e


def _sums(path: Path, chosen: np.ndarray | None = None) -> list[str]:
    """SHA-256 of the blocks of a file, or of some of them."""
    count = -(-path.stat().st_size // _BLOCK)
    out = []
    with path.open("rb") as f:
        for i in range(count) if chosen is None else chosen.tolist():
            f.seek(i * _BLOCK)
            out.append(hashlib.sha256(f.read(_BLOCK)).hexdigest())
    return out


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays; raises `_Damaged` if they are not what was written."""
    try:
        seal = json.loads((folder / _SEAL).read_bytes())
        for name in _FILES:
            found, wanted = (folder / name).stat().st_size, seal[name]["bytes"]
            if found != wanted:
                raise _Damaged(f"{name} has {found} bytes of {wanted}")
            sums = seal[name]["sums"]
            some = np.linspace(0, len(sums) - 1, min(len(sums), _LOOKED_AT)).astype(int)
            if _sums(folder / name, some) != [sums[i] for i in some]:
                raise _Damaged(f"{name} has other content than was written")
        images = np.load(folder / _FILES[0], mmap_mode="r")
        return images, np.load(folder / _FILES[1])
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as e:
        raise _Damaged(f"{Path(e.filename or folder).name}: {e.strerror}") from e
    except _Damaged:
        raise
    except (ValueError, KeyError, TypeError, IndexError) as e:
        raise _Damaged(f"{_SEAL} cannot be read") from e


def _discard(folder: Path) -> None:
    """Out of the way at once, as other processes may be looking for it; then gone."""
    away = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_PREFIX))
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        folder.rename(away / "damaged")
    shutil.rmtree(away, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left unfinished, if nothing in it has changed for a day."""
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another process sweeps, or is done, at this moment
            newest = max(p.stat().st_mtime for p in (left, *left.rglob("*")))
            if newest < time.time() - _OLD:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def growing(path: Path, shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes an npy file of images whose number is known at the end only.

    Args:
        shape: of one image.

    Yields:
        A function that appends uint8 `[N, *shape]`.
    """
    count = 0

    def header() -> None:
        about = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(f, about)

    def add(images: np.ndarray) -> None:
        nonlocal count
        f.write(np.ascontiguousarray(images, np.uint8).data)
        count += len(images)

    with path.open("wb") as f:
        header()
        yield add
        f.seek(0)
        header()  # as long as the first: numpy leaves room for the first axis to grow
