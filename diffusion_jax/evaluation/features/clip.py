"""Image embeddings of a CLIP trained by `--config=configs/scenes_clip.py:clean`, at unit length.

Use a CLIP that did not guide the samples.
"""

from collections.abc import Callable

import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.features.base import Features, digest
from diffusion_jax.types import Array, Params


def make(checkpoint: str, open_clip: Callable | None = None) -> Features:
    """Embeddings of clean images: the CLIP runs at its smallest gamma.

    Args:
        checkpoint: a work directory or checkpoint folder of a CLIP.
        open_clip: filled in by the run; `open_clip(checkpoint)` returns an object with the fields
            `params`, `see(params, images) -> [B, size]`, `size`, `digest` and `name`.

    Raises:
        ConfigError: `open_clip` is missing.
    """
    if open_clip is None:
        raise ConfigError("features clip(...): checkpoints can only be opened by a run")
    clip = open_clip(checkpoint)

    def apply(params: Params, images: Array) -> Array:
        v = clip.see(params, images).astype(jnp.float32)
        return v / jnp.maximum(jnp.linalg.norm(v, axis=1, keepdims=True), 1e-12)

    value = digest(f"clip {clip.digest}")
    return Features("clip", clip.size, apply, value, clip.params, {"checkpoint": clip.name})
