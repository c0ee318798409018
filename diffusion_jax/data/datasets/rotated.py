"""Another data set, turned by quarter turns: the same pixels as no model of it has seen them."""

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
    """Every image of a data set rotated.

    Captions that tell sides, as those of `scenes()`, are left out: they would name wrong places.

    Args:
        of: the data set, for example `digits()`.
        turns: quarter turns, counterclockwise.

    Raises:
        DataError: no data set was given, or an odd number of turns changes the shape.
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

    untrue = of.captioned and not of.mirrors and bool(turns % 4)

    def load(split: str) -> Split:
        found = of.split(split)
        every = found.everything()  # an image that replaces a damaged one brings its label
        return dataclasses.replace(
            found,
            name=f"rotated_{found.name}",
            images=np.ascontiguousarray(np.rot90(every["image"], turns, axes=(-3, -2))),
            labels=every["label"],
            captions=None if untrue else of_rows(found.captions, every),
        )

    note = (f"captions of {of.name} tell sides and are left out: of turned images they are untrue",)
    return dataclasses.replace(
        of, name=f"rotated_{of.name}", load=load, captioned=of.captioned and not untrue,
        notes=of.notes + note * untrue,
    )  # fmt: skip
