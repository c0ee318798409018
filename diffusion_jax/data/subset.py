"""Some of the examples of a split."""

import dataclasses

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.captions import of_rows


def part(split: Split, rows: np.ndarray) -> Split:
    """The examples `rows` of a split, with their labels and captions, in memory."""
    taken, captions = split.take(rows), split.captions
    if captions is not None:
        captions = of_rows(captions.part(rows), taken)
    return dataclasses.replace(
        split, images=taken["image"], labels=taken["label"], captions=captions,
        embedding=taken.get("embedding"),
    )  # fmt: skip
