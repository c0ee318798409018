"""Another data set, each image captioned by the name of its class: `class_captions(digits())`.

What a text tells of such an image is known exactly: the entropy of the classes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import Captions
from diffusion_jax.errors import DataError

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FIGURES = {str(k) for k in range(10)}


def make(of: Source) -> Source:
    """A data set with classes, and with their names as captions; single figures are spelt out.

    Args:
        of: the data set, for example `digits()`.

    Raises:
        DataError: no data set was given, it has no classes with names, or two have one name.
    """
    if not isinstance(of, Source):
        raise DataError(
            f"class_captions() needs a data set, such as class_captions(digits()); got {of!r}"
        )
    if not of.num_classes or len(of.classes) != of.num_classes:
        raise DataError(
            f"class_captions: the classes of {of.name} have no names to use as captions"
        )
    names = tuple(_DIGITS[int(n)] if n in _FIGURES else n for n in of.classes)
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(
            f"class_captions: two classes of {of.name} would have the caption {twice!r}"
        )

    def say(values: Sequence[int]) -> str:
        return names[values[0]] if values[0] >= 0 else ""

    def load(split: str) -> Split:
        found = of.split(split)
        column = found.labels[:, None].astype(np.int32)
        share = np.bincount(found.labels, minlength=len(names)) / len(found)
        law = tuple(((i,), float(p)) for i, p in enumerate(share))
        captions = Captions(
            names, column, column.astype(np.int16), ("class",), say, law=law,
            says=np.arange(len(names), dtype=np.int16)[:, None],
        )  # fmt: skip
        return dataclasses.replace(found, name=f"named_{found.name}", captions=captions)

    return dataclasses.replace(of, name=f"named_{of.name}", load=load, captioned=True)
