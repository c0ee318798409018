"""Pixels in [-1, 1], optionally averaged to a coarser grid."""

import math

import jax.numpy as jnp

from diffusion_jax.allowed import Count, Levels, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.features.base import Features, digest
from diffusion_jax.types import Array, Params


def make(size: Whole = 0, shape: tuple[Count, ...] = (32, 32, 3), levels: Levels = 256) -> Features:
    """Pixel values `2 x / (levels - 1) - 1`, flattened.

    Args:
        size: average blocks of pixels down to `size` x `size`; 0 keeps every pixel.
        shape: shape of an image, `(H, W, C)`, or of a video, `(T, H, W, C)`. Frames of a video are
            averaged separately.
        levels: number of levels; images hold integers 0 .. levels-1.

    Returns:
        `H * W * C` features, or `size * size * C`, for each frame.

    Raises:
        ConfigError: `size` does not divide height and width, or the data are not images or videos.
    """
    if len(shape) < 3:
        raise ConfigError(f"pixels: shape={shape} must be (H, W, C), or (T, H, W, C)")
    *frames, height, width, channels = shape
    rows, columns = (size, size) if size else (height, width)
    if rows < 1 or height % rows or width % columns:
        raise ConfigError(
            f"pixels(size={size}): size must divide the image's sides, {height} x {width}; 0 keeps "
            "all pixels"
        )

    def apply(params: Params, images: Array) -> Array:
        x = 2.0 * images.astype(jnp.float32) / (levels - 1) - 1.0
        blocks = (-1, rows, height // rows, columns, width // columns, channels)
        return x.reshape(blocks).mean((2, 4)).reshape(len(x), -1)

    count = math.prod((*frames, rows, columns, channels))
    what = "x".join(map(str, (*frames, rows, columns, channels)))
    name = f"pixels{size}" if size else "pixels"
    return Features(name, count, apply, digest(f"pixels {what}/{levels}"))
