"""Another data set with rare classes: each has fewer training images than the one before."""

import dataclasses
from typing import Annotated

import numpy as np

from diffusion_jax.allowed import Range, Seed
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.subset import part as part_of
from diffusion_jax.errors import DataError

_Ratio = Annotated[float, Range(1, "a finite number, at least 1")]


def make(of: Source, ratio: _Ratio = 10.0, seed: Seed = 0) -> Source:
    """The first class as it is, the last with one in `ratio` of its images, geometrically between.

    `valid` and `test` stay as they are (Cui et al. 2019, for CIFAR).

    Args:
        of: a labelled data set, for example `digits()`.
        ratio: how much rarer the last class becomes.
        seed: of the choice.

    Raises:
        DataError: no data set was given, or it has no two classes.
    """
    if not isinstance(of, Source):
        raise DataError(f"longtail() needs a data set, such as longtail(digits()); got {of!r}")
    if of.num_classes < 2:
        raise DataError(f"longtail: {of.name} has {of.num_classes} classes; it needs two or more")

    def load(split: str) -> Split:
        found = of.split(split)
        if split != "train":
            return found
        rng, kept = np.random.default_rng(seed), []
        for k in range(of.num_classes):
            rows = rng.permutation(np.flatnonzero(found.labels == k))
            share = ratio ** (-k / (of.num_classes - 1))
            kept.append(rows[: int(np.ceil(share * len(rows) - 1e-9))])
        thin = part_of(found, np.sort(np.concatenate(kept)))
        captions = thin.captions and dataclasses.replace(thin.captions, law=())
        return dataclasses.replace(thin, name=f"longtail_{found.name}", captions=captions)

    return dataclasses.replace(of, name=f"longtail_{of.name}", load=load)
