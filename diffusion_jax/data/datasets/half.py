"""Half of another data set's training images, to train two models that share none of them."""

import dataclasses
from typing import Annotated

import numpy as np

from diffusion_jax.allowed import Range, Seed, Whole
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.subset import part as part_of, sound
from diffusion_jax.errors import DataError

_Side = Annotated[int, Range(0, "0 or 1", high=1)]


def make(of: Source, part: _Side = 0, size: Whole = 0, seed: Seed = 0) -> Source:
    """One of two random halves of the training images; `valid` and `test` stay whole.

    Args:
        of: the data set, for example `digits()`.
        part: which half, 0 or 1. They share no image, because damaged ones are left out of both.
        size: number of images to keep of the half; 0 for all.
        seed: seed for the division.

    Raises:
        DataError: `of` is not a data set, or a half has fewer images than `size`.
    """
    if not isinstance(of, Source):
        raise DataError(f"half() needs a data set, such as half(digits()); got {of!r}")
    name = f"half_{part}_{of.name}" + (f"_{size}" if size else "")

    def load(split: str) -> Split:
        whole = of.split(split)
        if split != "train":
            return whole
        rows = np.array_split(np.random.default_rng(seed).permutation(len(whole)), 2)[part]
        rows = sound(whole, rows, size or len(rows))
        if not len(rows) or size > len(rows):
            raise DataError(f"half: size={size}, but half of {whole.name} is {len(rows)} images")
        kept = part_of(whole, np.sort(rows))
        return dataclasses.replace(kept, name=f"{name}/{split}")

    return dataclasses.replace(of, name=name, load=load)
