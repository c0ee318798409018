"""The first frames of a video: the first of two stages; the second is `later`."""

from dataclasses import dataclass

from diffusion_jax.allowed import Count
from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.data.views._cut import Cut
from diffusion_jax.types import Array


@dataclass(frozen=True)
class First:
    """The first frames of videos."""

    pyramid: Cut
    halvings: int = 1

    @property
    def part(self) -> str:
        """See `View`."""
        return "the first frame" if self.span[1] == 1 else f"the first {self.span[1]} frames"

    @property
    def span(self) -> tuple[int, int]:
        """See `View`."""
        return 0, self.pyramid.frames

    def shape(self, shape: Shape) -> Shape:
        """Shape of the first frames."""
        return self.pyramid.shapes(tuple(shape))[0]

    def given_shape(self, shape: Shape) -> Shape | None:
        """None: nothing is given."""
        return None

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The first frames, and an empty dict."""
        return self.pyramid.split(images)[0], {}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The first frames."""
        return part


def make(frames: Count = 2) -> First:
    """The first frames of a video.

    Args:
        frames: number of frames.
    """
    return First(Cut(frames))
