"""What a CLIP sees in the images of another data set: vectors, of which a prior is trained.

`embeddings(checkpoint='runs/clip', of=scenes())` are vectors `[1,1,D]` of 64 levels, with the
captions and classes of the images; see `data.vectors`. A run writes the CLIP's SHA-256 and the
scale of each value, which it takes from the training images, into its configuration.
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
    """Vectors of images, 64 levels over +-3 standard deviations.

    Args:
        checkpoint: a CLIP: a work directory or checkpoint folder.
        of: the images, such as `scenes()`.
        sha256: of the CLIP's weights; others are refused. Filled in by the run.
        mean: of each value on the training images; empty: measured. Filled in by the run.
        std: of each value, likewise.
        open_clip: gives a CLIP, see `experiment.clip_model`; runs offer it.

    Raises:
        DataError: there is no run that could open the CLIP, or it is of other images or weights.
    """
    if not isinstance(of, Source):
        raise DataError(
            f"embeddings() needs a data set, as in embeddings(checkpoint='runs/clip', "
            f"of=scenes()); got of={of!r}"
        )
    if open_clip is None:
        raise DataError(
            "embeddings() is opened by runs alone, which can read a CLIP: set it as --config.data"
        )
    clip = open_clip(checkpoint)
    if (tuple(of.shape), of.levels) != (clip.shape, clip.levels):
        raise DataError(
            f"embeddings: {checkpoint} sees images of {clip.shape} with {clip.levels} levels, "
            f"{of.name} has {tuple(of.shape)} with {of.levels}"
        )
    if sha256 and clip.digest != sha256:
        raise DataError(
            f"embeddings: the weights in {checkpoint} have changed since this run began "
            f"({clip.digest[:8]}.., then {sha256[:8]}..): train it anew"
        )
    name = f"embeddings_{of.name}"

    @functools.lru_cache
    def raw(split: str) -> dict[str, np.ndarray]:
        every = of.split(split).everything()  # a replaced image brings its label and caption
        return {**every, "image": clip.images(np.asarray(every["image"]))}

    @functools.lru_cache
    def scale() -> Scale:
        return Scale(mean, std) if mean else vectors.measured(raw("train")["image"])

    @functools.lru_cache
    def load(split: str) -> Split:
        found = of.split(split)
        every = raw(split)
        return Split(
            f"{name}/{split}", scale().levels(every["image"]), every["label"], LEVELS,
            found.num_classes, of_rows(found.captions, every),
        )  # fmt: skip

    note = f"vectors of {clip.size} values on {LEVELS} levels over +-{SPAN:g} deviations"
    return Source(
        name, (1, 1, clip.size), LEVELS, of.num_classes, load, of.classes, (*of.notes, note),
        captioned=of.captioned, attribution=of.attribution, medium=VECTOR,
    )  # fmt: skip
