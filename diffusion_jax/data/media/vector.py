"""Vectors: values without neighbours, such as embeddings of images."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from diffusion_jax.data.pictures import Damaged


@dataclass(frozen=True)
class Vector:
    """Vectors `(1, 1, D)`: one pixel with D channels for a network, shown as a grey square."""

    name: str = "vector"
    shapes: str = "(1, 1, values)"
    layout: str = "[N,1,1,D]"
    file: str = "vector"
    time: None = None
    kinds: tuple[str, ...] = ()

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the shape is `(1, 1, D)`."""
        return len(shape) == 3 and shape[:2] == (1, 1)

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """Squares filled row by row, padded with zeros."""
        n, values = len(examples), examples.shape[-1]
        side = math.ceil(math.sqrt(values))
        filled = np.pad(examples.reshape(n, values), [(0, 0), (0, side**2 - values)])
        return filled.reshape(n, side, side, 1)

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """Not supported: only the data set knows how values were quantised."""
        raise Damaged(
            f"vectors must be in an npz, as image uint8 [N, {', '.join(map(str, shape))}]"
        )

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Writes no files, because the squares show everything."""
        return ()


VECTOR = Vector()
