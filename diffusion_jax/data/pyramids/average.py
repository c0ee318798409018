"""The mean of each 2x2 square of pixels, rounded down; the other part is the whole image."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.pyramids.base import Shape, low_shape
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Average:
    """See the module docstring.

    The second stage may give mass to images whose means differ from the given ones. Then
    `P(low) P(image | low)` sums to less than 1, which is valid but wastes some mass.
    """

    exact: bool = False

    def high_shape(self, shape: Shape) -> Shape:
        """Shape of the image."""
        low_shape(shape)
        return shape

    def split(self, images: Array) -> tuple[Array, Array]:
        """The means, and the whole images."""
        x = jnp.asarray(images, jnp.int32)
        total = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
        return jnp.asarray(total // 4, jnp.uint8), jnp.asarray(images, jnp.uint8)

    def merge(self, low: Array, high: Array) -> Array:
        """Returns `high`, which need not have the means `low`."""
        return high


def make() -> Average:
    """Averaging: looks better than subsampling, costs slightly more bits than a bijection."""
    return Average()
