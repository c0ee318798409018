"""Mirror images: left and right are exchanged with probability 1/2."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment, choices, one_hot
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Flip:
    """Mirrors each image with probability 1/2."""

    size: int = 1
    mirrors: bool = True

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """The images, and 1 for those that were mirrored."""
        which = choices(keys, 2)
        mirrored = (which == 1).reshape(-1, *[1] * (images.ndim - 1))
        return jnp.where(mirrored, images[..., ::-1, :], images), one_hot(which, 2)


def make() -> Augment:
    """Random mirroring, used in training only."""
    return Flip()
