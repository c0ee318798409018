"""CLIP embeddings of another data set's images, to train a prior on.

`embeddings(checkpoint='runs/clip', of=scenes())` are vectors `[1, 1, D]` with 64 levels, with the
captions and classes of the images; see `data.vectors`. A run saves the CLIP's SHA-256 and the
scale of each value, measured on the training images, in its configuration.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax.allowed import Finite, Positive
from diffusion_jax.data import vectors
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import of_rows
from diffusion_jax.data.media.vector import VECTOR
from diffusion_jax.data.vectors import LEVELS, SPAN, Scale
from diffusion_jax.errors import DataError


def make(
    checkpoint: str,
    of: Source,
    sha256: str = "",
    mean: tuple[Finite, ...] = (),
    std: tuple[Positive, ...] = (),
    open_clip: Callable[[str], Any] | None = None,
) -> Source:
    """Embeddings of images, quantised to 64 levels over +-3 standard deviations.

    Args:
        checkpoint: a work directory or checkpoint folder of a CLIP.
        of: the images, such as `scenes()`.
        sha256: required digest of the CLIP's weights; filled in by the run.
        mean: mean of each value on the training images, measured if empty; filled in by the run.
        std: standard deviation of each value, as for `mean`.
        open_clip: opens a CLIP from its run, see `experiment.clip_model`; supplied by the run.

    Raises:
        DataError: `open_clip` is missing, or the CLIP is for other images or has other weights.
    """
    if not isinstance(of, Source):
        raise DataError(
            f"embeddings() needs a data set, as in embeddings(checkpoint='runs/clip', "
            f"of=scenes()); got of={of!r}"
        )
    if open_clip is None:
        raise DataError("embeddings() needs a run, which can open a CLIP: set it as --config.data")
    clip = open_clip(checkpoint)
    if (tuple(of.shape), of.levels) != (clip.shape, clip.levels):
        raise DataError(
            f"embeddings: {checkpoint} sees images of {clip.shape} with {clip.levels} levels, but "
            f"{of.name} has {tuple(of.shape)} with {of.levels}"
        )
    if sha256 and clip.digest != sha256:
        raise DataError(
            f"embeddings: the weights in {checkpoint} have changed since this run began "
            f"({clip.digest[:8]}.., then {sha256[:8]}..): train this run again"
        )
    name = f"embeddings_{of.name}"

    @functools.lru_cache
    def raw(split: str) -> dict[str, np.ndarray]:
        every = of.split(split).everything()  # replaced images come with their label and caption
        return {**every, "image": clip.images(np.asarray(every["image"]))}

    @functools.lru_cache
    def scale() -> Scale:
        return Scale(mean, std) if mean else vectors.measured(raw("train")["image"])

    @functools.lru_cache
    def load(split: str) -> Split:
        part = of.split(split)
        every = raw(split)
        return Split(
            f"{name}/{split}", scale().levels(every["image"]), every["label"], LEVELS,
            part.num_classes, of_rows(part.captions, every),
        )  # fmt: skip

    note = f"vectors of {clip.size} values with {LEVELS} levels over +-{SPAN:g} standard deviations"
    return Source(
        name, (1, 1, clip.size), LEVELS, of.num_classes, load, of.classes, (*of.notes, note),
        captioned=of.captioned, attribution=of.attribution, medium=VECTOR,
    )  # fmt: skip
