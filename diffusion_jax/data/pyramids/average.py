"""The mean of each square of four pixels, rounded down; the other part is the whole image."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.pyramids.base import Shape, low_shape
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Average:
    """See the module docstring.

    The second stage may give mass to images with another mean than the one it was told, so that
    `P(low) P(image | low)` sums to less than 1: valid, and a little wasteful.
    """

    exact: bool = False

    def high_shape(self, shape: Shape) -> Shape:
        """That of the image."""
        low_shape(shape)
        return shape

    def split(self, images: Array) -> tuple[Array, Array]:
        """The means, and the images themselves."""
        x = jnp.asarray(images, jnp.int32)
        total = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
        return jnp.asarray(total // 4, jnp.uint8), jnp.asarray(images, jnp.uint8)

    def merge(self, low: Array, high: Array) -> Array:
        """The second part, whatever its mean."""
        return high


def make() -> Average:
    """Mean pictures: pleasant to look at, a little worse in bits than a bijection."""
    return Average()
