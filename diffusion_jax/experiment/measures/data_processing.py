"""A check of the data processing inequality, `inform.of`: I(vector; text) <= I(image; text).

The vector is the CLIP embedding, a function of the image. Both sides are measured on the same
images and captions, the first by a prior, the second by a model of the images.
"""

import math
from typing import Any

import numpy as np

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.data.captions import Captions
from diffusion_jax.data.media.vector import VECTOR
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, other_runs
from diffusion_jax.likelihood import information as lib


def opened(run: Experiment, captions: Captions) -> tuple[Experiment, Split]:
    """Opens the model of images in `config.inform.of`, with the settings of `run`, and its images.

    Args:
        run: a prior.
        captions: captions of the measured examples.

    Raises:
        ConfigError: there is no such run, it does not read text, or its images have other
            captions.
    """
    path = run.config.inform.of
    if run.source.medium is not VECTOR:
        raise ConfigError(
            f"inform.of={path}: this run models the images themselves; the setting is for a prior, "
            "a run with data embeddings(...)"
        )
    other = other_runs.opened("inform.of", path, "", run.config.data_dir)
    if other.text is None or other.source.medium is VECTOR:
        raise ConfigError(f"inform.of={path}: give a model of the images that reads their captions")
    if registry.parse(other.config.view).name != "whole":
        raise ConfigError(
            f"inform.of={path}: that run (view {other.config.view}) models a part of each image, "
            "or it given another; give one with view='whole()'"
        )
    lib.check(other.model, f"inform.of={path}")
    other.config.eval = run.config.eval
    split = other.source.split(run.config.eval.split)
    theirs = split.captions
    if theirs is None or theirs.strings()[: len(captions)] != captions.strings():
        raise ConfigError(
            f"inform.of={path}: the images of {split.name} have other captions than those measured "
            "here; give a run on the images of the embeddings"
        )
    return other, split


def compared(vector: np.ndarray, image: np.ndarray) -> dict[str, Any]:
    """I(vector; text) - I(image; text) in bits; the true value is at most 0.

    Args:
        vector: nats of the embeddings, `[N, K]`.
        image: nats of the same images, `[N, K']`.

    Returns:
        `information` about the image, and `more`, the difference with its error over images.
    """
    more = (vector.mean(1) - image.mean(1)) / math.log(2.0)
    return {"information": lib.bits(image), "more": lib.mean_se(more)}


def compared_mixtures(vector: np.ndarray, image: np.ndarray) -> dict[str, Any]:
    """The same from mixtures of all captions, which do not need a bound without text.

    Args:
        vector: bits of the embeddings `[N]`, from `information.lift`.
        image: bits of the same images.
    """
    return {"vector": lib.mean_se(vector), "information": lib.mean_se(image),
            "more": lib.mean_se(vector - image)}  # fmt: skip
