"""Integer Haar bands by lifting modulo the number of levels: means and differences.

A pair (a, b) becomes the difference c = a - b modulo V, in -V/2 .. V/2 - 1, and the low part
b + floor(c / 2) modulo V, which is the mean rounded down unless a and b are far apart. This is a
bijection of pairs of V levels (the S-transform of Said & Pearlman 1996 with a modulus).
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Levels
from diffusion_jax.data.pyramids.base import Shape, low_shape
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Haar:
    """See the module docstring."""

    levels: int
    exact: bool = True

    def high_shape(self, shape: Shape) -> Shape:
        """Shape of the three difference bands."""
        height, width, channels = low_shape(shape)
        return (height, width, 3 * channels)

    def split(self, images: Array) -> tuple[Array, Array]:
        """The means; and the differences along rows, between rows, and of both kinds."""
        x = jnp.asarray(images, jnp.int32)
        top, down = self._forward(x[:, ::2], x[:, 1::2])
        low, across = self._forward(top[:, :, ::2], top[:, :, 1::2])
        high = jnp.concatenate([across, *self._forward(down[:, :, ::2], down[:, :, 1::2])], axis=-1)
        return low.astype(jnp.uint8), high.astype(jnp.uint8)

    def merge(self, low: Array, high: Array) -> Array:
        """The images from their bands."""
        across, *down = jnp.split(jnp.asarray(high, jnp.int32), 3, axis=-1)
        top = self._join(*self._backward(jnp.asarray(low, jnp.int32), across), axis=2)
        bottom = self._join(*self._backward(*down), axis=2)
        return self._join(*self._backward(top, bottom), axis=1).astype(jnp.uint8)

    def _forward(self, a: Array, b: Array) -> tuple[Array, Array]:
        half = self.levels // 2
        c = (a - b + half) % self.levels - half
        return (b + c // 2) % self.levels, c + half

    def _backward(self, low: Array, high: Array) -> tuple[Array, Array]:
        c = high - self.levels // 2
        b = (low - c // 2) % self.levels
        return (b + c) % self.levels, b

    def _join(self, first: Array, second: Array, axis: int) -> Array:
        shape = list(first.shape)
        shape[axis] *= 2
        return jnp.stack([first, second], axis=axis + 1).reshape(shape)


def make(levels: Levels = 256) -> Haar:
    """Haar bands: suited to photographs, whose neighbouring pixels are similar.

    Args:
        levels: number of grey levels of the data.
    """
    return Haar(levels)
