"""Another data set with the name of each image's class as caption: `class_captions(digits())`.

The mutual information of text and image is known exactly: it is the entropy of the classes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import Captions
from diffusion_jax.errors import DataError

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NUMERALS = {str(k) for k in range(10)}


def make(of: Source) -> Source:
    """A data set with the names of its classes as captions; single digits are spelt out.

    Args:
        of: the data set, for example `digits()`.

    Raises:
        DataError: `of` is not a data set, its classes have no names, or two have the same name.
    """
    if not isinstance(of, Source):
        raise DataError(
            f"class_captions() needs a data set, such as class_captions(digits()); got {of!r}"
        )
    if not of.num_classes or len(of.classes) != of.num_classes:
        raise DataError(
            f"class_captions: the classes of {of.name} have no names to use as captions"
        )
    names = tuple(_DIGITS[int(n)] if n in _NUMERALS else n for n in of.classes)
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(
            f"class_captions: two classes of {of.name} would have the caption {twice!r}"
        )

    def say(values: Sequence[int]) -> str:
        return names[values[0]] if values[0] >= 0 else ""

    def load(split: str) -> Split:
        part = of.split(split)
        column = part.labels[:, None].astype(np.int32)
        share = np.bincount(part.labels, minlength=len(names)) / len(part)
        law = tuple(((i,), float(p)) for i, p in enumerate(share))
        captions = Captions(
            names, column, column.astype(np.int16), ("class",), say, law=law,
            says=np.arange(len(names), dtype=np.int16)[:, None],
        )  # fmt: skip
        return dataclasses.replace(part, name=f"named_{part.name}", captions=captions)

    return dataclasses.replace(of, name=f"named_{of.name}", load=load, captioned=True)
