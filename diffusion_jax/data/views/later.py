"""The later frames of a video, given the first ones: video prediction with a likelihood.

Together with a run of `first` this is a model of videos in two stages, whose bits add up:
log P(video) = log P(first frames) + log P(later frames | first frames).
"""

from dataclasses import dataclass

from diffusion_jax.allowed import Count
from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.data.views._cut import Cut
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Later:
    """The later frames of videos, given the first ones."""

    pyramid: Cut
    halvings: int = 0

    @property
    def part(self) -> str:
        """See `View`."""
        given = self.pyramid.frames
        return f"the later frames, given the first{f' {given}' if given > 1 else ''}"

    @property
    def span(self) -> tuple[int, None]:
        """See `View`: from the first frame that is not given to the end."""
        return self.pyramid.frames, None

    def shape(self, shape: Shape) -> Shape:
        """Shape of the later frames."""
        return self.pyramid.high_shape(tuple(shape))

    def given_shape(self, shape: Shape) -> Shape | None:
        """Shape of the first frames."""
        return self.pyramid.shapes(tuple(shape))[0]

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The later frames, and the first ones as `"low"`."""
        low, high = self.pyramid.split(images)
        return high, {"low": low}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """Whole videos; the first frames are those given."""
        return self.pyramid.merge(given["low"], part)


def make(given: Count = 2) -> Later:
    """The later frames of a video, given the first ones.

    Args:
        given: number of frames that are given.
    """
    return Later(Cut(given))
