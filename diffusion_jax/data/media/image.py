"""Still images."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from diffusion_jax.data.pictures import fitted, read


@dataclass(frozen=True)
class Image:
    """Grey or colour images `(H, W, C)`."""

    name: str = "image"
    shapes: str = "(height, width, 1 or 3)"
    layout: str = "[N,H,W,C] with 1 or 3 channels"
    file: str = "picture"
    time: None = None
    kinds: tuple[str, ...] = ()

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the shape is that of a grey or RGB image."""
        return len(shape) == 3 and shape[-1] in (1, 3)

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """The images."""
        return examples

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """Reads an image file, crops and shrinks it, and rounds 0 .. 255 to the nearest level."""
        pixels = fitted(read(file, shape[-1]), (shape[0], shape[1])).reshape(shape)
        return np.round(pixels * ((levels - 1) / 255.0)).astype(np.uint8)

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Writes no files, because a contact sheet shows everything."""
        return ()


IMAGE = Image()
