"""Image files read when they are asked for, by a pool of threads; no more of them in memory.

Threads suffice: Pillow releases the interpreter lock while it decodes and resizes.

A file that cannot be decoded is named once, counted, and replaced by the next good file of the
list: a rule that knows the files alone, so that the data are the same after a restart and for any
number of processes. A file that cannot be *read* (gone, no permission, a broken disk) stops the
run: replacing it would make the data depend on transient I/O errors.
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

_IN_A_ROW = 100  # damaged files after which the folder, not a file, is what is wrong
_CHUNK = 4096  # files in the air when all are decoded
_SAMPLED = 256  # files whose content is looked at in a sketch


def decode(data: bytes, size: tuple[int, int], channels: int) -> np.ndarray:
    """The picture in a file's content, in the size of the model: uint8 `[H, W, channels]`.

    Raises:
        Damaged: it cannot be decoded, or is smaller than `size`.
    """
    return fitted(read(data, channels), size).reshape(*size, channels)


@functools.lru_cache(maxsize=4)
def pool(workers: int) -> ThreadPoolExecutor:
    """The threads that decode, shared by all splits; 0 for one per core that we may use."""
    return ThreadPoolExecutor(workers or cores.available(), "decode")


class Pictures(Sequence):
    """Image files that behave like an array uint8 `[N, H, W, channels]`, read on demand.

    Args:
        root: the folder.
        names: the files below it, in their order.
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
        """Damaged files met so far."""
        return len(self._bad)

    def good(self, index: int) -> tuple[np.ndarray | None, int]:
        """The image of file `index`, and `index`; None in place of the image if it is damaged."""
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
                f"cannot read {path}: {e.strerror}; mend the folder and run the command again"
            ) from e

    def sketch(self) -> bytes:
        """A digest of all names and of the content of some files, evenly spread."""
        digest = hashlib.sha256("\0".join(self.names).encode())
        some = np.linspace(0, len(self) - 1, min(len(self), _SAMPLED)).astype(int)
        for content in self.over(self._content, some.tolist()):
            digest.update(hashlib.sha256(content).digest())
        return digest.digest()

    def _nearest(self, index: int) -> tuple[np.ndarray, int]:
        """The image of file `index`, or of the next good one, and whose it is."""
        count = min(len(self), _IN_A_ROW)
        for i in range(index, index + count):
            image, used = self.good(i % len(self))
            if image is not None:
                return image, used
        first = self._bad.get(index, "")
        raise DataError(
            f"none of {count} files in a row is a usable image, from "
            f"{self.root / self.names[index]} ({first}) on: the folder is damaged, or "
            f"{self.shape[1]}x{self.shape[2]} is too large for it"
        )

    def over(self, work: Callable[[int], Any], indices: Sequence[int]) -> list:
        """`[work(i) for i in indices]`, by the pool."""
        return list(pool(self._workers).map(work, indices))

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images, and which files they come from: other than asked for where those are damaged.

        Args:
            indices: `[B]`.

        Returns:
            `(images, used)`: uint8 `[B, H, W, C]`, and int64 `[B]`.
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
        """Decodes all files once; damaged ones are left out.

        Args:
            labels: one per file.
            out: where `images.npy` and `labels.npy` go.

        Raises:
            DataError: no file is left.
        """
        count, kept = len(self), []
        about = progress(f"decode {self.root.name}", count)
        with _cache.growing(out / "images.npy", self.shape[1:]) as add, about as bar:
            for start in range(0, count, _CHUNK):
                for image, index in self.over(self.good, range(start, min(start + _CHUNK, count))):
                    if image is not None:
                        add(image[None])
                        kept.append(index)
                bar.at(min(start + _CHUNK, count))
        if not kept:
            raise DataError(f"none of the {count} files in {self.root} is a usable image")
        np.save(out / "labels.npy", labels[kept].astype(np.int32))
