"""Image files read on demand by a pool of threads, without keeping them in memory.

Threads suffice, because Pillow releases the interpreter lock while it decodes and resizes.

A file that cannot be decoded is reported once, counted, and replaced by the next good file in the
list. This rule depends on the files only, so the data are the same after a restart and for any
number of processes. A file that cannot be *read* (missing, no permission, a broken disk) stops the
run, because otherwise the data would depend on transient I/O errors.
"""

import functools
import hashlib
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.data.datasets import _cache
from diffusion_jax.data.pictures import Damaged, fitted, read
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import cores
from diffusion_jax.runtime.progress import progress

_IN_A_ROW = 100  # consecutive damaged files after which the folder counts as damaged
_CHUNK = 4096  # files in memory at a time when all are decoded
_SAMPLED = 256  # files whose content is part of a sketch


def decode(data: bytes, size: tuple[int, int], channels: int) -> np.ndarray:
    """Decodes a file's content, and crops and shrinks it: uint8 `[H, W, channels]`.

    Raises:
        Damaged: the content cannot be decoded, or the image is smaller than `size`.
    """
    return fitted(read(data, channels), size).reshape(*size, channels)


@functools.lru_cache(maxsize=4)
def pool(workers: int) -> ThreadPoolExecutor:
    """The decoding threads, shared by all splits; 0 for one per available core."""
    return ThreadPoolExecutor(workers or cores.available(), "decode")


class Pictures(Sequence):
    """Image files that behave like an array uint8 `[N, H, W, channels]`, read on demand.

    Args:
        root: the folder.
        names: paths of the files below it, in order.
        size: height and width.
        channels: 1 or 3.
        workers: threads that decode; 0 for one per processor.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        size: tuple[int, int],
        channels: int,
        workers: int,
    ):
        self.root, self.names = root, names
        self.shape = (len(names), *size, channels)
        self._workers = workers
        self._bad: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def nbytes(self) -> int:
        """Bytes of all images, decoded."""
        return int(np.prod(self.shape))

    @property
    def skipped(self) -> int:
        """Number of damaged files found so far."""
        return len(self._bad)

    def good(self, index: int) -> tuple[np.ndarray | None, int]:
        """The image of file `index` (None if it is damaged), and `index`."""
        if index in self._bad:
            return None, index
        path, data = self.root / self.names[index], self._content(index)
        try:
            return decode(data, self.shape[1:3], self.shape[3]), index
        except Damaged as e:
            with self._lock:
                if index not in self._bad:
                    self._bad[index] = str(e)
                    print(f"skipped {path}: {e}", file=sys.stderr, flush=True)
        return None, index

    def _content(self, index: int) -> bytes:
        path = self.root / self.names[index]
        try:
            return path.read_bytes()
        except OSError as e:
            raise DataError(
                f"cannot read {path}: {e.strerror}; fix the folder and run the command again"
            ) from e

    def sketch(self) -> bytes:
        """A digest of all names and of the content of some evenly spaced files."""
        digest = hashlib.sha256("\0".join(self.names).encode())
        sampled = np.linspace(0, len(self) - 1, min(len(self), _SAMPLED)).astype(int)
        for content in self.over(self._content, sampled.tolist()):
            digest.update(hashlib.sha256(content).digest())
        return digest.digest()

    def _nearest(self, index: int) -> tuple[np.ndarray, int]:
        """The image of file `index`, or of the next good one, and the index of that file."""
        count = min(len(self), _IN_A_ROW)
        for i in range(index, index + count):
            image, used = self.good(i % len(self))
            if image is not None:
                return image, used
        first = self._bad.get(index, "")
        raise DataError(
            f"none of {count} consecutive files is a usable image, starting with "
            f"{self.root / self.names[index]} ({first}): the folder is damaged, or its images are "
            f"smaller than {self.shape[1]}x{self.shape[2]}"
        )

    def over(self, work: Callable[[int], Any], indices: Sequence[int]) -> list:
        """`[work(i) for i in indices]`, computed by the pool."""
        return list(pool(self._workers).map(work, indices))

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads images, replacing damaged ones.

        Args:
            indices: indices of the files, `[B]`.

        Returns:
            `(images, used)`: uint8 `[B, H, W, C]`, and the indices of the files that were used,
            int64 `[B]`.
        """
        out = np.empty((len(indices), *self.shape[1:]), np.uint8)
        used = np.empty(len(indices), np.int64)
        for i, (image, index) in enumerate(self.over(self._nearest, [int(k) for k in indices])):
            out[i], used[i] = image, index
        return out, used

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            return self.read(np.arange(len(self))[index])[0]
        if np.ndim(index) == 0:
            return self.read(np.arange(len(self))[index : index + 1 or None])[0][0]
        return self.read(np.arange(len(self))[np.asarray(index)])[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def write(self, labels: np.ndarray, out: Path) -> None:
        """Decodes all files to `images.npy` and `labels.npy`, leaving out damaged ones.

        Args:
            labels: one per file.
            out: folder for the result.

        Raises:
            DataError: all files are damaged.
        """
        count, kept = len(self), []
        progress_bar = progress(f"decode {self.root.name}", count)
        with _cache.growing(out / "images.npy", self.shape[1:]) as add, progress_bar as bar:
            for start in range(0, count, _CHUNK):
                for image, index in self.over(self.good, range(start, min(start + _CHUNK, count))):
                    if image is not None:
                        add(image[None])
                        kept.append(index)
                bar.at(min(start + _CHUNK, count))
        if not kept:
            raise DataError(f"none of the {count} files in {self.root} is a usable image")
        np.save(out / "labels.npy", labels[kept].astype(np.int32))
