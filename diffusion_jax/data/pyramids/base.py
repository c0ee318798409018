"""The contract of a pyramid: an image as a smaller image and what is missing of it.

Both parts are whole numbers with the levels of the image, so that each is data like any other, and
`log P(image) = log P(low) + log P(high | low)` holds exactly: nothing is rescaled.
"""

from typing import Protocol, runtime_checkable

from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array

Shape = tuple[int, ...]


@runtime_checkable
class Pyramid(Protocol):
    """Splits images in two.

    Attributes:
        exact: whether every pair `(low, high)` is some image's. If it is not, the sum of the two
            bounds is a valid one still, but spends mass on pairs that do not occur.
    """

    exact: bool

    def high_shape(self, shape: Shape) -> Shape:
        """Shape of the missing part of an image of even height and width."""
        ...

    def split(self, images: Array) -> tuple[Array, Array]:
        """`(low, high)` of images `[B, H, W, C]`; low is `[B, H/2, W/2, C]`; both uint8."""
        ...

    def merge(self, low: Array, high: Array) -> Array:
        """The images, uint8."""
        ...


def low_shape(shape: Shape) -> Shape:
    """Shape of the smaller image.

    Raises:
        ConfigError: height or width are odd, or it is no image.
    """
    if len(shape) != 3:
        raise ConfigError(
            f"a pyramid takes images [H, W, C], these data are {list(shape)}: use view='whole()'"
        )
    height, width, channels = shape
    if height % 2 or width % 2:
        raise ConfigError(
            f"a pyramid halves height and width: with {height}x{width} images one more level is "
            "impossible; use a lower level, or view='whole()' if there is none"
        )
    return (height // 2, width // 2, channels)
