"""The last hidden layer of a classifier trained by `--config=configs/digits_classifier.py`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.features.base import Features, digest
from diffusion_jax.types import Array, Params


def make(
    checkpoint: str,
    shape: tuple[Count, Count, Count] = (32, 32, 3),
    open_classifier: Callable | None = None,
) -> Features:
    """Features of clean images: the classifier runs at its smallest gamma.

    Args:
        checkpoint: a work directory or checkpoint folder of a classifier.
        shape: shape of an image, `(H, W, C)`.
        open_classifier: filled in by the run; `open_classifier(checkpoint)` returns an object with
            the fields `params`, `features(params, images) -> [B, F]` and `record`.

    Raises:
        ConfigError: `open_classifier` is missing.
    """
    if open_classifier is None:
        raise ConfigError("features classifier(...): checkpoints can only be opened by a run")
    classifier = open_classifier(checkpoint)

    def apply(params: Params, images: Array) -> Array:
        return classifier.features(params, images).astype(jnp.float32)

    image = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    size = jax.eval_shape(apply, classifier.params, image).shape[-1]
    value = digest(f"classifier {classifier.record['task']}", classifier.params)
    return Features("classifier", size, apply, value, classifier.params, classifier.record)
