"""Every second pixel of every second row; the other three pixels of each square are channels."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.pyramids.base import Shape, low_shape
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Subsample:
    """See the module docstring."""

    exact: bool = True

    def high_shape(self, shape: Shape) -> Shape:
        """Shape of the other three pixels of each square."""
        height, width, channels = low_shape(shape)
        return (height, width, 3 * channels)

    def split(self, images: Array) -> tuple[Array, Array]:
        """The upper left pixels; and the upper right, lower left and lower right ones."""
        places = (images[:, i::2, j::2] for i, j in ((0, 1), (1, 0), (1, 1)))
        return images[:, ::2, ::2], jnp.concatenate([*places], axis=-1)

    def merge(self, low: Array, high: Array) -> Array:
        """The images from their parts."""
        b, height, width, channels = low.shape
        parts = jnp.concatenate([low, high], axis=-1).reshape(b, height, width, 2, 2, channels)
        return parts.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * height, 2 * width, channels)


def make() -> Subsample:
    """Plain subsampling: suited to images with few or saturated levels, such as digits."""
    return Subsample()
