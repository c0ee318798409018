"""Videos cut in two after some frames; shared by the views of both parts."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Cut:
    """A pyramid in time: the low part is the first frames, the high part the later ones."""

    frames: int
    exact: bool = True

    def shapes(self, shape: Shape) -> tuple[Shape, Shape]:
        """Shapes of both parts of a video of `shape`.

        Raises:
            ConfigError: `shape` is not that of a video, or one of the parts would be empty.
        """
        if len(shape) != 4:
            raise ConfigError(
                f"first() and later() need videos [T, H, W, C], but these data are {list(shape)}: "
                "use view='whole()'"
            )
        frames, *one = shape
        if not 0 < self.frames < frames:
            allowed = f"1 .. {frames - 1}" if frames > 1 else "none"
            raise ConfigError(
                f"first(frames={self.frames}) and later(given={self.frames}) cut videos of "
                f"{frames} frames in two: allowed: {allowed}; view='whole()' models all frames"
            )
        return (self.frames, *one), (frames - self.frames, *one)

    def high_shape(self, shape: Shape) -> Shape:
        """Shape of the later frames."""
        return self.shapes(shape)[1]

    def split(self, images: Array) -> tuple[Array, Array]:
        """The first frames and the later frames."""
        self.shapes(images.shape[1:])
        return images[:, : self.frames], images[:, self.frames :]

    def merge(self, low: Array, high: Array) -> Array:
        """Joins first and later frames."""
        return jnp.concatenate([jnp.asarray(low), jnp.asarray(high)], axis=1)
