"""Images decoded once: a folder with `images.npy` (memory-mapped) and `labels.npy`.

Under `$DIFFUSION_JAX_CACHE`, by default `~/.cache/diffusion_jax`.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from diffusion_jax.errors import DataError

_PREFIX = "decoding-"
_OLD = 24 * 3600  # seconds after which nobody writes there any more


def once(final: Path, write: Callable[[Path], None]) -> tuple[np.ndarray, np.ndarray]:
    """The arrays in `final`, which are written first if they are not there.

    Args:
        final: the folder; its name must say everything that the arrays depend on.
        write: writes `images.npy` and `labels.npy` into the folder it is given.

    Returns:
        `(images, labels)`: uint8, memory-mapped; and int32.

    Raises:
        DataError: the cache cannot be written, the source not read, or `write` raised it.
    """
    if not (final / "labels.npy").exists():
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            # A folder of our own, renamed when complete: a killed or parallel start leaves no half.
            _sweep(final.parent)
            with tempfile.TemporaryDirectory(dir=final.parent, prefix=_PREFIX) as scratch:
                part = Path(scratch) / "split"
                part.mkdir()
                write(part)
                try:
                    part.rename(final)
                except OSError:
                    if not (final / "labels.npy").exists():  # else another process was faster
                        raise
        except OSError as e:
            raise DataError(
                f"cannot decode the images into {final.parent}: {e}; if it is this folder that is "
                "full or cannot be written, set DIFFUSION_JAX_CACHE to another, else mend what is "
                "read"
            ) from e
    return np.load(final / "images.npy", mmap_mode="r"), np.load(final / "labels.npy")


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
