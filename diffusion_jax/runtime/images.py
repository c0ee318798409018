"""Image grids as PNG."""

import math
from pathlib import Path

import numpy as np

from diffusion_jax.runtime.storage import write_picture


def grid(images: np.ndarray, levels: int, columns: int = 0, pixels: int = 64) -> np.ndarray:
    """Tiles images into one picture.

    Args:
        images: integers `[N, H, W, C]` with C = 1 or 3, values 0 .. levels-1.
        levels: grey levels; the top one becomes white.
        columns: images per row; about the square root of N if 0.
        pixels: small images are enlarged, by a whole factor, to at least this height.

    Returns:
        uint8 `[H', W', 3]`.

    Raises:
        ValueError: the images have neither 1 nor 3 channels.
    """
    n, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ValueError(f"cannot draw images with {channels} channels")
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows = math.ceil(n / columns)
    factor = max(1, -(-pixels // height))
    shown = np.round(images.astype(np.float64) * (255.0 / (levels - 1))).astype(np.uint8)
    shown = shown.repeat(factor, axis=1).repeat(factor, axis=2)
    shown = np.broadcast_to(shown, (*shown.shape[:3], 3))
    h, w = height * factor, width * factor
    gap = 2
    canvas = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 64, np.uint8)
    for i, image in enumerate(shown):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        canvas[y : y + h, x : x + w] = image
    return canvas


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 `[H, W, 3]` picture."""
    from PIL import Image

    write_picture(path, Image.fromarray(image))
