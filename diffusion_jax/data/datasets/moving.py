"""Images of another data set that move over a torus, or between walls, as in Moving MNIST.

Videos are not stored: each is a function of (split, index), so the training set can have any size.
Test videos show test images.
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
    """Behaves like an array uint8 `[N, T, H, W, C]`, with videos rendered on demand."""

    images: np.ndarray
    shape: tuple[int, ...]
    objects: int
    torus: bool
    speed: int
    seed: int
    ndim: int = 5

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.arange(len(self))[index]
        videos = np.zeros((np.size(rows), *self.shape[1:]), np.uint8)
        for out, i in zip(videos, np.ravel(rows), strict=True):
            self._draw(out, np.random.default_rng([self.seed, int(i)]))
        return videos if np.ndim(rows) else videos[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]

    def first_images(self) -> np.ndarray:
        """Index of the first image in each video, which determines the label."""
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
        # Reflection at both walls is a triangle wave.
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
    """Videos of moving real images; where images overlap, the brighter pixel is visible.

    Args:
        of: the images, such as `mnist()`; None means `digits()`.
        frames: number of frames.
        size: height and width of a frame.
        objects: number of images in a video; the first one determines the label.
        speed: maximum speed in pixels per frame, along each axis.
        torus: whether images leave on one side and enter on the other; otherwise they bounce off
            the walls.
        videos: number of training videos.

    Raises:
        DataError: `of` is not a data set of images, or its images are larger than a frame.
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
        rows = images.split(split).whole()  # replaced images come with their own labels
        shape = (_HELD.get(split, videos), frames, size, size, images.shape[-1])
        seed = zlib.crc32(f"moving {split}".encode())
        rendered = _Videos(rows["image"], shape, objects, torus, speed, seed)
        labels = rows["label"][rendered.first_images()].astype(np.int32)
        return Split(f"{name}/{split}", rendered, labels, images.levels, images.num_classes)

    return Source(
        name, (frames, size, size, images.shape[-1]), images.levels, images.num_classes, load,
        images.classes, mirrors=images.mirrors, medium=VIDEO, attribution=images.attribution,
    )  # fmt: skip


def _digits() -> Source:
    from diffusion_jax import registry

    return registry.build("data", "digits()")
