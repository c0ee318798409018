"""Random rotations by 0, 90, 180 or 270 degrees."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment, choices, one_hot
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Rotate:
    """Rotates each image counterclockwise by 0 to 3 quarter turns, uniformly."""

    size: int = 3
    turns: bool = True

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """The images, and one-hot vectors of the rotation; no rotation is the zero vector."""
        if images.shape[-3] != images.shape[-2]:
            raise ConfigError(f"rotate: images must be square, got {images.shape[-3:-1]}")
        which = choices(keys, 4)
        out = images
        for k in range(1, 4):
            turned = (which == k).reshape(-1, *[1] * (images.ndim - 1))
            out = jnp.where(turned, jnp.rot90(images, k, axes=(-3, -2)), out)
        return out, one_hot(which, 4)


def make() -> Augment:
    """Random quarter turns, used in training only."""
    return Rotate()
