"""Image files read when they are asked for, by a pool of threads; no more of them in memory.

Threads suffice: Pillow releases the interpreter lock while it decodes and resizes.

A file that cannot be decoded is named once, counted, and replaced by the next good file of the
list: a rule that knows the files alone, so that the data are the same after a restart and for any
number of processes. A file that cannot be *read* (gone, no permission, a broken disk) stops the
run: replacing it would make the data depend on transient I/O errors.
"""

import functools
import io
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.data.datasets import _cache
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import cores
from diffusion_jax.runtime.progress import progress

_IN_A_ROW = 100  # damaged files after which the folder, not a file, is what is wrong
_CHUNK = 4096  # files in the air when all are decoded
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # 8 bits or fewer


class Damaged(ValueError):
    """A file that is not a usable image."""


def decode(data: bytes, size: int, channels: int) -> np.ndarray:
    """One image, in the size of the model.

    Turned as its EXIF says; the first frame of several; without its transparency; the central
    square (the odd pixel off the right or bottom side); that square shrunk by averaging areas
    (Pillow's box filter: along rows, then columns, rounded to whole levels each time). An image of
    the right size keeps its pixels.

    Args:
        data: content of a png, jpg or webp file.
        size: height and width.
        channels: 3 for RGB, 1 for luminance (ITU-R 601).

    Returns:
        uint8 `[size, size, channels]`.

    Raises:
        Damaged: it cannot be decoded, has more than 8 bits, or is smaller than `size`.
    """
    from PIL import Image, ImageOps

    try:
        picture = Image.open(io.BytesIO(data))
        if picture.mode not in _MODES:
            raise Damaged(f"has pixels of kind {picture.mode}; only 8 bits per channel are read")
        picture = ImageOps.exif_transpose(picture)
        if "transparency" in picture.info:
            picture = picture.convert("RGBA")
        picture = picture.convert("L" if channels == 1 else "RGB")
    except Damaged:
        raise
    except Exception as e:  # Pillow's decoders raise nearly everything on damaged files
        told = "unknown or damaged format" if "identify" in str(e) else str(e)
        raise Damaged(told or type(e).__name__) from e
    side = min(picture.size)
    if side < size:
        raise Damaged(f"is {picture.width}x{picture.height}, smaller than {size}x{size}")
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    if side > size:
        picture = picture.resize((size, size), Image.Resampling.BOX)
    return np.asarray(picture).reshape(size, size, channels)


@functools.lru_cache(maxsize=4)
def pool(workers: int) -> ThreadPoolExecutor:
    """The threads that decode, shared by all splits; 0 for one per core that we may use."""
    return ThreadPoolExecutor(workers or cores.available(), "decode")


class Pictures(Sequence):
    """Image files that behave like an array uint8 `[N, size, size, channels]`, read on demand.

    Args:
        names: the files below it, in their order.
        size: height and width.
        channels: 1 or 3.
        workers: threads that decode; 0 for one per processor.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, root: Path, names: Sequence[str], size: int, channels: int, workers: int):
        self.root, self.names = root, names
        self.shape = (len(names), size, size, channels)
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
        path = self.root / self.names[index]
        try:
            data = path.read_bytes()
        except OSError as e:
            raise DataError(
                f"cannot read {path}: {e.strerror}; mend the folder and run the command again"
            ) from e
        try:
            return decode(data, *self.shape[2:]), index
        except Damaged as e:
            with self._lock:
                if index not in self._bad:
                    self._bad[index] = str(e)
                    print(f"skipped {path}: {e}", file=sys.stderr, flush=True)
        return None, index

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
            f"{self.root / self.names[index]} ({first}) on: the folder is damaged, or size="
            f"{self.shape[1]} is too large for it"
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
