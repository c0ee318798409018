"""Flips and quarter turns, all eight symmetries of the square, with the network told which.

The augmentation of the lower CIFAR-10 figures (Jun et al. 2020, "Distribution augmentation";
Kingma et al. 2021, table 1): bits/dim are still those of untouched images, condition "identity".
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment, as_before, flat
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


def _transform(image: Array, which: Array) -> Array:
    turns = [lambda im, k=k: jnp.rot90(im, k) for k in range(4)]
    flips = [lambda im, k=k: jnp.rot90(im[:, ::-1], k) for k in range(4)]
    return jax.lax.switch(which, turns + flips, image)


@dataclass(frozen=True)
class Dihedral:
    """One of eight symmetries per image, each equally likely; 0 is the identity."""

    size: int = 7
    mirrors: bool = True
    turns: bool = True

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Transformed images, and a one-hot vector of the symmetry without the identity's entry."""
        if images.shape[-3] != images.shape[-2]:
            raise ConfigError(f"dihedral: images must be square, got {images.shape[-3:-1]}")
        which = jax.vmap(lambda k: jax.random.randint(k, (), 0, 8))(keys)
        turned = as_before(jax.vmap(_transform)(flat(images), which), images)
        return turned, jax.nn.one_hot(which, 8)[:, 1:]


def make() -> Augment:
    """Random flips and quarter turns."""
    return Dihedral()
