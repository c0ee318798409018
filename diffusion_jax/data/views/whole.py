"""Whole images (the default)."""

from dataclasses import dataclass

from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Whole:
    """Whole images."""

    pyramid: None = None
    halvings: int = 0

    def shape(self, shape: Shape) -> Shape:
        """Shape of the image."""
        return tuple(shape)

    def given_shape(self, shape: Shape) -> Shape | None:
        """None: nothing is given."""
        return None

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The images."""
        return images, {}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The images."""
        return part


def make() -> Whole:
    """The whole image."""
    return Whole()
