"""Unit vectors of a CLIP that guides nothing, as `--config=configs/scenes_clip.py:clean` trains."""

from collections.abc import Callable

import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.features.base import Features, digest
from diffusion_jax.types import Array, Params


def make(checkpoint: str, open_clip: Callable | None = None) -> Features:
    """Vectors of clean images: the CLIP is asked at its smallest gamma.

    Args:
        checkpoint: a work directory or checkpoint folder of a CLIP.
        open_clip: given by the caller: `open_clip(checkpoint)` has the fields `params`,
            `see(params, images) -> [B, size]`, `size`, `digest` and `name`.

    Raises:
        ConfigError: there is nobody to open the checkpoint.
    """
    if open_clip is None:
        raise ConfigError("features clip(...): checkpoints can only be opened by a mode")
    found = open_clip(checkpoint)

    def apply(params: Params, images: Array) -> Array:
        v = found.see(params, images).astype(jnp.float32)
        return v / jnp.maximum(jnp.linalg.norm(v, axis=1, keepdims=True), 1e-12)

    value = digest(f"clip {found.digest}")
    return Features("clip", found.size, apply, value, found.params, {"checkpoint": found.name})
