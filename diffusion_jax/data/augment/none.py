"""No augmentation."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment
from diffusion_jax.types import Array


@dataclass(frozen=True)
class _Identity:
    size: int = 0

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        return images, jnp.zeros((images.shape[0], 0))


def make() -> Augment:
    """The identity."""
    return _Identity()
