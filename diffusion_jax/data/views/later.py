"""The later frames of a video, given the first ones: prediction, in bits.

With a run of those, `first`, it makes a model of videos of two stages, and the bits of both add up:
log P(video) = log P(first frames) + log P(later frames | first frames).
"""

from dataclasses import dataclass

from diffusion_jax.allowed import Count
from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.data.views._cut import Cut
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Later:
    """Videos from a frame on, given what was before it."""

    pyramid: Cut
    halvings: int = 0

    @property
    def part(self) -> str:
        """What is predicted, and from how many frames."""
        given = self.pyramid.frames
        return f"the later frames, given the first{f' {given}' if given > 1 else ''}"

    @property
    def span(self) -> tuple[int, None]:
        """From the first frame that is not given to the end."""
        return self.pyramid.frames, None

    def shape(self, shape: Shape) -> Shape:
        """That of a shorter video."""
        return self.pyramid.high_shape(tuple(shape))

    def given_shape(self, shape: Shape) -> Shape | None:
        """That of the first frames."""
        return self.pyramid.shapes(tuple(shape))[0]

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The later frames, and the first ones."""
        low, high = self.pyramid.split(images)
        return high, {"low": low}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The videos, the first frames as they were given."""
        return self.pyramid.merge(given["low"], part)


def make(given: Count = 2) -> Later:
    """The later frames of a video, given the first ones.

    Args:
        given: how many frames are given.
    """
    return Later(Cut(given))
