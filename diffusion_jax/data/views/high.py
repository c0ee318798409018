"""The part of an image that its smaller image lacks, given the latter: a later cascade stage."""

from dataclasses import dataclass

from diffusion_jax.allowed import Count, Levels
from diffusion_jax.data.pyramids.base import Pyramid, Shape
from diffusion_jax.data.views.base import SUBSAMPLE, halved, lowered, pyramid_of
from diffusion_jax.registry import Spec
from diffusion_jax.types import Array


@dataclass(frozen=True)
class High:
    """The missing part of images halved `level - 1` times, given those halved `level` times."""

    pyramid: Pyramid
    level: int

    @property
    def part(self) -> str:
        """See `View`; the whole image if the pyramid is not exact."""
        what = "the rest" if self.pyramid.exact else "the image"
        return f"{what}, given the smaller image"

    @property
    def halvings(self) -> int:
        """One less than for the smaller image."""
        return self.level - 1

    def shape(self, shape: Shape) -> Shape:
        """Shape of the missing part."""
        return self.pyramid.high_shape(halved(tuple(shape), self.level - 1))

    def given_shape(self, shape: Shape) -> Shape | None:
        """Shape of the smaller image."""
        return halved(tuple(shape), self.level)

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The missing part, and the smaller images."""
        low, high = self.pyramid.split(lowered(self.pyramid, images, self.level - 1))
        return high, {"low": low}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The images that consist of these parts."""
        return self.pyramid.merge(given["low"], part)


def make(pyramid: Spec = SUBSAMPLE, level: Count = 1, levels: Levels = 256) -> High:
    """The missing part.

    Args:
        pyramid: how images are split, a plug-in of `pyramids`.
        level: how often the smaller image (which is given) was halved.
        levels: number of grey levels of the data.
    """
    return High(pyramid_of(pyramid, levels), level)
