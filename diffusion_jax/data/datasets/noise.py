"""Noise with the shape, levels and number of images of another data set."""

import zlib

import numpy as np

from diffusion_jax.allowed import Seed
from diffusion_jax.data.base import Source, Split
from diffusion_jax.errors import DataError

_HOWS = ("uniform", "shuffled")


def make(like: Source, how: str = "uniform", seed: Seed = 0) -> Source:
    """Noise images, without labels.

    Args:
        like: data set to imitate, for example `digits()`.
        how: `"uniform"` for uniformly distributed levels, or `"shuffled"` for the pixels of each
            real image in random order, which preserves its histogram.
        seed: seed for the noise, combined with the split.

    Raises:
        DataError: `like` is not a data set, or `how` is unknown.
    """
    if not isinstance(like, Source):
        raise DataError(f"noise() needs a data set, such as noise(digits()); got {like!r}")
    if how not in _HOWS:
        raise DataError(f"noise: how={how!r}: allowed: {', '.join(_HOWS)}")

    def load(split: str) -> Split:
        real = like.split(split)
        rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
        images = np.asarray(real.images)
        if how == "uniform":
            images = rng.integers(0, real.levels, images.shape, dtype=np.uint8)
        else:
            pixels = images.reshape(len(images), -1, images.shape[-1])
            order = rng.random(pixels.shape[:2]).argsort(axis=1)
            images = np.take_along_axis(pixels, order[..., None], axis=1).reshape(images.shape)
        labels = np.zeros(len(images), np.int32)
        return Split(f"{how}_noise_{like.name}/{split}", images, labels, real.levels, 0)

    return Source(f"{how}_noise_{like.name}", like.shape, like.levels, 0, load,
                  medium=like.medium)  # fmt: skip
