"""Another data set in another size, in grey or in colour: to compare sets of different shape."""

import dataclasses

import numpy as np

from diffusion_jax.allowed import Count, Whole
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import of_rows
from diffusion_jax.data.datasets._check_medium import check_medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.errors import DataError


def make(of: Source, size: Count, channels: Whole = 0) -> Source:
    """Every image of a data set with 256 levels, resized by averaging areas.

    Args:
        of: the data set, for example `cifar10()`.
        size: height and width.
        channels: 1 turns colour into luminance (ITU-R 601), 3 repeats grey; 0 keeps what there is.

    Raises:
        DataError: no data set was given, it has not 256 levels, or the arguments make no image.
    """
    if not isinstance(of, Source):
        raise DataError(
            f"resized() needs a data set, as in resized(cifar10(), size=28); got {of!r}"
        )
    check_medium("resized: of", of, IMAGE, example="cifar10()")
    if of.levels != 256:
        raise DataError(f"resized: {of.name} has {of.levels} levels; only 256 can be resized")
    wanted = channels or of.shape[-1]
    if size < 1 or {wanted, of.shape[-1]} - {1, 3}:
        raise DataError(f"resized: size={size}, channels={channels}: allowed are 1 or 3 channels")

    def load(split: str) -> Split:
        from PIL import Image

        found = of.split(split)

        def one(image: np.ndarray) -> np.ndarray:
            picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
            picture = picture.convert("L" if wanted == 1 else "RGB")
            out = np.asarray(picture.resize((size, size), Image.Resampling.BOX))
            return out.reshape(size, size, wanted)

        every = found.everything()  # an image that replaces a damaged one brings its label
        images = np.stack([one(image) for image in every["image"]])
        return dataclasses.replace(
            found, name=f"resized_{found.name}", images=images, labels=every["label"],
            captions=of_rows(found.captions, every),
        )  # fmt: skip

    return dataclasses.replace(of, name=f"resized_{of.name}", shape=(size, size, wanted), load=load)
