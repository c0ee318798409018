"""Images of another data set that move over a torus, or between walls: Moving MNIST, for any set.

A video is a function of (split, number): nothing is stored, and the training set is as long as is
asked for. Images of test videos are test images.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_jax.allowed import Count
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.datasets._check_medium import check_medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.data.media.video import VIDEO
from diffusion_jax.errors import DataError

_HELD = {"valid": 500, "test": 1000}


@dataclass(frozen=True, eq=False)
class _Videos(Sequence):
    """Videos that are drawn when they are asked for, as an array uint8 `[N, T, H, W, C]`."""

    images: np.ndarray
    shape: tuple[int, ...]
    objects: int
    torus: bool
    speed: int
    seed: int
    ndim: int = 5

    @property
    def dtype(self) -> np.dtype:
        """Of their values."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all videos."""
        return int(np.prod(self.shape))

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.arange(len(self))[index]
        found = np.zeros((np.size(rows), *self.shape[1:]), np.uint8)
        for out, i in zip(found, np.ravel(rows), strict=True):
            self._draw(out, np.random.default_rng([self.seed, int(i)]))
        return found if np.ndim(rows) else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]

    def which(self) -> np.ndarray:
        """The number of the first image of each video, which gives it its label."""
        draws = (np.random.default_rng([self.seed, i]) for i in range(len(self)))
        return np.asarray([rng.integers(len(self.images)) for rng in draws])

    def _draw(self, out: np.ndarray, rng: np.random.Generator) -> None:
        (frames, *size, _), small = self.shape[1:], self.images.shape[1:3]
        room = np.asarray(size) if self.torus else np.asarray(size) - small
        for _ in range(self.objects):
            image = self.images[rng.integers(len(self.images))]
            start = rng.integers(0, np.maximum(room, 1))
            velocity = rng.integers(-self.speed, self.speed + 1, 2)
            for t in range(frames):
                top, left = self._at(start + t * velocity, room)
                rows = (top + np.arange(small[0])) % size[0]
                columns = (left + np.arange(small[1])) % size[1]
                part = np.ix_(rows, columns)
                out[t][part] = np.maximum(out[t][part], image)

    def _at(self, place: np.ndarray, room: np.ndarray) -> np.ndarray:
        if self.torus:
            return place % room
        # Reflected at both walls: a triangle wave.
        return room - np.abs(place % np.maximum(2 * room, 1) - room)


def make(
    of: Source | None = None,
    frames: Count = 8,
    size: Count = 16,
    objects: Count = 1,
    speed: Count = 2,
    torus: bool = True,
    videos: Count = 20_000,
) -> Source:
    """Videos of real images that move; where they meet, the lighter pixel is seen.

    Args:
        of: the images, such as `mnist()`; `digits()` if None.
        frames: T.
        size: height and width of a frame.
        objects: images in a video; the first gives its label.
        speed: largest number of pixels from frame to frame, along each axis.
        torus: what leaves on one side comes in on the other; else images bounce off the walls.
        videos: training videos.

    Raises:
        DataError: `of` is no data set of images, or its images are larger than a frame.
    """
    images = of if of is not None else _digits()
    check_medium("moving: of", images, IMAGE)
    if max(images.shape[:2]) > size:
        raise DataError(
            f"moving: size={size} is smaller than {images.name}'s images, "
            f"{images.shape[0]}x{images.shape[1]}"
        )
    name = f"moving_{images.name}_{frames}x{size}"

    def load(split: str) -> Split:
        found = images.split(split).whole()  # an image that replaces a damaged one brings its label
        shape = (_HELD.get(split, videos), frames, size, size, images.shape[-1])
        seed = zlib.crc32(f"moving {split}".encode())
        drawn = _Videos(found["image"], shape, objects, torus, speed, seed)
        labels = found["label"][drawn.which()].astype(np.int32)
        return Split(f"{name}/{split}", drawn, labels, images.levels, images.num_classes)

    return Source(
        name, (frames, size, size, images.shape[-1]), images.levels, images.num_classes, load,
        images.classes, mirrors=images.mirrors, medium=VIDEO, attribution=images.attribution,
    )  # fmt: skip


def _digits() -> Source:
    from diffusion_jax import registry

    return registry.build("data", "digits()")
