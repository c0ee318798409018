"""The first frames of a video: the first of two stages, before `later`."""

from dataclasses import dataclass

from diffusion_jax.allowed import Count
from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.data.views._cut import Cut
from diffusion_jax.types import Array


@dataclass(frozen=True)
class First:
    """Videos up to a frame."""

    pyramid: Cut
    halvings: int = 1

    @property
    def part(self) -> str:
        """How many frames."""
        return "the first frame" if self.span[1] == 1 else f"the first {self.span[1]} frames"

    @property
    def span(self) -> tuple[int, int]:
        """From the first frame on."""
        return 0, self.pyramid.frames

    def shape(self, shape: Shape) -> Shape:
        """That of a shorter video."""
        return self.pyramid.shapes(tuple(shape))[0]

    def given_shape(self, shape: Shape) -> Shape | None:
        """Nothing is given."""
        return None

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The first frames."""
        return self.pyramid.split(images)[0], {}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The first frames."""
        return part


def make(frames: Count = 2) -> First:
    """The first frames of a video.

    Args:
        frames: how many.
    """
    return First(Cut(frames))
