"""Subsets of a split."""

import dataclasses

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.captions import of_rows


def sound(split: Split, rows: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of `rows` whose image is not a replacement for a damaged file."""
    if not hasattr(split.images, "read"):
        return rows[:count]
    kept = rows[:0]
    for start in range(0, len(rows), max(count, 1)):
        block = rows[start : start + count]
        _, used = split.images.read(block)
        kept = np.concatenate([kept, block[used == block]])
        if len(kept) >= count:
            break
    return kept[:count]


def part(split: Split, rows: np.ndarray) -> Split:
    """The examples at `rows` of a split, with labels and captions, in memory."""
    taken, captions = split.take(rows), split.captions
    if captions is not None:
        captions = of_rows(captions.part(rows), taken)
    return dataclasses.replace(
        split, images=taken["image"], labels=taken["label"], captions=captions,
        embedding=taken.get("embedding"),
    )  # fmt: skip
