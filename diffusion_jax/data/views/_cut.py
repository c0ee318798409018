"""Videos cut in two after some frames: what the views of both parts share."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Cut:
    """A pyramid in time: its low part are the first frames, the other those after them."""

    frames: int
    exact: bool = True

    def shapes(self, shape: Shape) -> tuple[Shape, Shape]:
        """Shapes of both parts of a video of `shape`.

        Raises:
            ConfigError: it is no video, or one of the parts would be empty.
        """
        if len(shape) != 4:
            raise ConfigError(
                f"first() and later() take videos [T, H, W, C], these data are {list(shape)}: use "
                "view='whole()'"
            )
        frames, *one = shape
        if not 0 < self.frames < frames:
            allowed = f"1 .. {frames - 1}" if frames > 1 else "none"
            raise ConfigError(
                f"first(frames={self.frames}) and later(given={self.frames}) cut videos of "
                f"{frames} frames in two: allowed are {allowed}; view='whole()' is all of them"
            )
        return (self.frames, *one), (frames - self.frames, *one)

    def high_shape(self, shape: Shape) -> Shape:
        """That of the later frames."""
        return self.shapes(shape)[1]

    def split(self, images: Array) -> tuple[Array, Array]:
        """The first frames, and the later ones."""
        self.shapes(images.shape[1:])
        return images[:, : self.frames], images[:, self.frames :]

    def merge(self, low: Array, high: Array) -> Array:
        """The videos."""
        return jnp.concatenate([jnp.asarray(low), jnp.asarray(high)], axis=1)
