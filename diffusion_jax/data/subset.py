"""Some of the examples of a split."""

import dataclasses

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.captions import of_rows


def sound(split: Split, rows: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of `rows` with images of their own: others would stand for damaged ones."""
    if not hasattr(split.images, "read"):
        return rows[:count]
    kept = rows[:0]
    for start in range(0, len(rows), max(count, 1)):
        some = rows[start : start + count]
        _, used = split.images.read(some)
        kept = np.concatenate([kept, some[used == some]])
        if len(kept) >= count:
            break
    return kept[:count]


def part(split: Split, rows: np.ndarray) -> Split:
    """The examples `rows` of a split, with their labels and captions, in memory."""
    taken, captions = split.take(rows), split.captions
    if captions is not None:
        captions = of_rows(captions.part(rows), taken)
    return dataclasses.replace(
        split, images=taken["image"], labels=taken["label"], captions=captions,
        embedding=taken.get("embedding"),
    )  # fmt: skip
