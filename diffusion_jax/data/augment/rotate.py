"""Quarter turns: 0, 90, 180 or 270 degrees."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment, choices, one_hot
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Rotate:
    """Each image turned counterclockwise by 0 to 3 quarters, equally likely."""

    size: int = 3
    turns: bool = True

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Images, and a one-hot vector of the turn without the entry of no turn."""
        if images.shape[-3] != images.shape[-2]:
            raise ConfigError(f"rotate: images must be square, got {images.shape[-3:-1]}")
        which = choices(keys, 4)
        out = images
        for k in range(1, 4):
            turned = (which == k).reshape(-1, *[1] * (images.ndim - 1))
            out = jnp.where(turned, jnp.rot90(images, k, axes=(-3, -2)), out)
        return out, one_hot(which, 4)


def make() -> Augment:
    """Random quarter turns; they change what is trained on, not what is evaluated."""
    return Rotate()
