"""Random orders of the colour channels (Jun et al. 2020, "Distribution augmentation")."""

import itertools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.augment.base import Augment, choices, one_hot
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array

_ORDERS = np.array(list(itertools.permutations(range(3))), np.int32)  # identity first


@dataclass(frozen=True)
class Permute:
    """Puts the channels of each image in one of the six orders, uniformly."""

    size: int = 5
    recolours: bool = True

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """The images, and one-hot vectors of the order; the original order is the zero vector."""
        if images.shape[-1] != 3:
            raise ConfigError(f"permute: images must have 3 channels, got {images.shape[-1]}")
        which = choices(keys, len(_ORDERS))
        order = jnp.asarray(_ORDERS)[which].reshape(-1, *[1] * (images.ndim - 2), 3)
        return jnp.take_along_axis(images, order, axis=-1), one_hot(which, len(_ORDERS))


def make() -> Augment:
    """Random orders of the channels, used in training only."""
    return Permute()
