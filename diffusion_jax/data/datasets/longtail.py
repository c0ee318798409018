"""Another data set made imbalanced: each class has fewer training images than the previous one."""

import dataclasses
from typing import Annotated

import numpy as np

from diffusion_jax.allowed import Range, Seed
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.subset import part as part_of
from diffusion_jax.errors import DataError

_Ratio = Annotated[float, Range(1, "a finite number, at least 1")]


def make(of: Source, ratio: _Ratio = 10.0, seed: Seed = 0) -> Source:
    """Thins out classes by factors that rise geometrically from 1 (first) to `ratio` (last).

    `valid` and `test` are not changed (Cui et al. 2019, for CIFAR).

    Args:
        of: a labelled data set, for example `digits()`.
        ratio: factor by which the last class is thinned out.
        seed: seed for the choice of images.

    Raises:
        DataError: `of` is not a data set, or has fewer than two classes.
    """
    if not isinstance(of, Source):
        raise DataError(f"longtail() needs a data set, such as longtail(digits()); got {of!r}")
    if of.num_classes < 2:
        raise DataError(f"longtail: {of.name} has {of.num_classes} classes; two or more are needed")

    def load(split: str) -> Split:
        whole = of.split(split)
        if split != "train":
            return whole
        rng, kept = np.random.default_rng(seed), []
        for k in range(of.num_classes):
            rows = rng.permutation(np.flatnonzero(whole.labels == k))
            share = ratio ** (-k / (of.num_classes - 1))
            kept.append(rows[: int(np.ceil(share * len(rows) - 1e-9))])
        thinned = part_of(whole, np.sort(np.concatenate(kept)))
        captions = thinned.captions and dataclasses.replace(thinned.captions, law=())
        return dataclasses.replace(thinned, name=f"longtail_{whole.name}", captions=captions)

    return dataclasses.replace(of, name=f"longtail_{of.name}", load=load)
