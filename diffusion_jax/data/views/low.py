"""The smaller image of a pyramid: the first stage of a cascade."""

from dataclasses import dataclass

from diffusion_jax.allowed import Count, Levels
from diffusion_jax.data.pyramids.base import Pyramid, Shape
from diffusion_jax.data.views.base import SUBSAMPLE, halved, lowered, pyramid_of
from diffusion_jax.registry import Spec
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Low:
    """Images halved `level` times."""

    pyramid: Pyramid
    level: int
    part: str = "the smaller image"

    @property
    def halvings(self) -> int:
        """See `View`."""
        return self.level

    def shape(self, shape: Shape) -> Shape:
        """Half of height and width for each level."""
        return halved(tuple(shape), self.level)

    def given_shape(self, shape: Shape) -> Shape | None:
        """None: nothing is given."""
        return None

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The smaller images."""
        return lowered(self.pyramid, images, self.level), {}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The smaller images."""
        return part


def make(pyramid: Spec = SUBSAMPLE, level: Count = 1, levels: Levels = 256) -> Low:
    """The smaller image.

    Args:
        pyramid: how images are split, a plug-in of `pyramids`.
        level: how often images are halved.
        levels: number of grey levels of the data.
    """
    return Low(pyramid_of(pyramid, levels), level)
