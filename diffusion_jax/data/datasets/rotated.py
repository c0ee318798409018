"""Another data set rotated by quarter turns: same pixels, in orientations the model never saw."""

import dataclasses

import numpy as np

from diffusion_jax.allowed import Turns
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import of_rows
from diffusion_jax.data.datasets._check_medium import check_medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.data.media.video import VIDEO
from diffusion_jax.errors import DataError


def make(of: Source, turns: Turns = 1) -> Source:
    """The images of a data set, rotated.

    Captions that mention left and right, as those of `scenes()` do, are dropped, because they would
    be wrong.

    Args:
        of: the data set, for example `digits()`.
        turns: number of quarter turns, counterclockwise.

    Raises:
        DataError: `of` is not a data set of images or videos, or the turns change the shape.
    """
    if not isinstance(of, Source):
        raise DataError(f"rotated() needs a data set, such as rotated(digits()); got {of!r}")
    check_medium("rotated: of", of, IMAGE, VIDEO, example="digits()")
    height, width = of.shape[-3:-1]
    if turns != int(turns):
        raise DataError(f"rotated: turns={turns} must be a whole number of quarter turns")
    if turns % 2 and height != width:
        raise DataError(
            f"rotated: {turns} quarter turns of {height}x{width} images change their shape; "
            "use turns=2"
        )

    drop_captions = of.captioned and not of.mirrors and bool(turns % 4)

    def load(split: str) -> Split:
        original = of.split(split)
        every = original.everything()  # replaced images come with their own labels
        return dataclasses.replace(
            original,
            name=f"rotated_{original.name}",
            images=np.ascontiguousarray(np.rot90(every["image"], turns, axes=(-3, -2))),
            labels=every["label"],
            captions=None if drop_captions else of_rows(original.captions, every),
        )

    notes = of.notes
    if drop_captions:
        notes += (f"captions of {of.name} mention left and right, so they are dropped",)
    return dataclasses.replace(
        of, name=f"rotated_{of.name}", load=load, captioned=of.captioned and not drop_captions,
        notes=notes,
    )  # fmt: skip
