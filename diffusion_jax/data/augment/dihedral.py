"""Flips and quarter turns: all eight symmetries of the square, which condition the network.

The lower CIFAR-10 results in the literature use this augmentation (Jun et al. 2020, "Distribution
augmentation"; Kingma et al. 2021, table 1). Bits/dim are those of original images, with the
identity as condition.
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
    """Applies one of eight symmetries to each image, uniformly; 0 is the identity."""

    size: int = 7
    mirrors: bool = True
    turns: bool = True

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """The images, and one-hot vectors of the symmetry; the identity is the zero vector."""
        if images.shape[-3] != images.shape[-2]:
            raise ConfigError(f"dihedral: images must be square, got {images.shape[-3:-1]}")
        which = jax.vmap(lambda k: jax.random.randint(k, (), 0, 8))(keys)
        turned = as_before(jax.vmap(_transform)(flat(images), which), images)
        return turned, jax.nn.one_hot(which, 8)[:, 1:]


def make() -> Augment:
    """Random flips and quarter turns, used in training only."""
    return Dihedral()
