"""Another data set resized, or converted to grey or colour, to compare sets of different shapes."""

import dataclasses

import numpy as np

from diffusion_jax.allowed import Count, Whole
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import of_rows
from diffusion_jax.data.datasets._check_medium import check_medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.errors import DataError


def make(of: Source, size: Count, channels: Whole = 0) -> Source:
    """The images of a data set with 256 levels, resized by area averaging.

    Args:
        of: the data set, for example `cifar10()`.
        size: height and width.
        channels: 1 converts colour to luminance (ITU-R 601), 3 repeats grey, 0 keeps the channels.

    Raises:
        DataError: `of` is not a data set of images with 256 levels, or an argument is not valid.
    """
    if not isinstance(of, Source):
        raise DataError(
            f"resized() needs a data set, as in resized(cifar10(), size=28); got {of!r}"
        )
    check_medium("resized: of", of, IMAGE, example="cifar10()")
    if of.levels != 256:
        raise DataError(f"resized: {of.name} has {of.levels} levels; only 256 can be resized")
    out_channels = channels or of.shape[-1]
    if size < 1 or {out_channels, of.shape[-1]} - {1, 3}:
        raise DataError(f"resized: size={size}, channels={channels}: allowed: 1 or 3 channels")

    def load(split: str) -> Split:
        from PIL import Image

        original = of.split(split)

        def resize(image: np.ndarray) -> np.ndarray:
            picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
            picture = picture.convert("L" if out_channels == 1 else "RGB")
            out = np.asarray(picture.resize((size, size), Image.Resampling.BOX))
            return out.reshape(size, size, out_channels)

        every = original.everything()  # replaced images come with their own labels
        images = np.stack([resize(image) for image in every["image"]])
        return dataclasses.replace(
            original, name=f"resized_{original.name}", images=images, labels=every["label"],
            captions=of_rows(original.captions, every),
        )  # fmt: skip

    return dataclasses.replace(
        of, name=f"resized_{of.name}", shape=(size, size, out_channels), load=load
    )
