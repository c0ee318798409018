"""The contract of a pyramid: it splits an image into a smaller image and the missing rest.

Both parts are integers with the same levels as the image, so that each is ordinary data, and
`log P(image) = log P(low) + log P(high | low)` holds exactly.
"""

from typing import Protocol, runtime_checkable

from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array

Shape = tuple[int, ...]


@runtime_checkable
class Pyramid(Protocol):
    """Splits images in two.

    Attributes:
        exact: whether every pair `(low, high)` corresponds to an image. If not, the sum of the two
            bounds is still a valid bound, but some mass is spent on pairs that do not occur.
    """

    exact: bool

    def high_shape(self, shape: Shape) -> Shape:
        """Shape of the missing part of an image of even height and width."""
        ...

    def split(self, images: Array) -> tuple[Array, Array]:
        """Splits images `[B, H, W, C]` into `(low, high)`, uint8; low is `[B, H/2, W/2, C]`."""
        ...

    def merge(self, low: Array, high: Array) -> Array:
        """The images from their parts, uint8."""
        ...


def low_shape(shape: Shape) -> Shape:
    """Shape of the smaller image.

    Raises:
        ConfigError: height or width is odd, or `shape` is not that of an image.
    """
    if len(shape) != 3:
        raise ConfigError(
            f"a pyramid needs images [H, W, C], but these data are {list(shape)}: use "
            "view='whole()'"
        )
    height, width, channels = shape
    if height % 2 or width % 2:
        raise ConfigError(
            f"a pyramid halves height and width: with {height}x{width} images one more level is "
            "impossible; use a lower level, or view='whole()' if this is the first"
        )
    return (height // 2, width // 2, channels)
