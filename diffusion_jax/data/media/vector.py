"""Vectors: values without neighbours, such as embeddings of images."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from diffusion_jax.data.pictures import Damaged


@dataclass(frozen=True)
class Vector:
    """Vectors `(1, 1, D)`: one pixel of many channels to a network, a grey square to a reader."""

    name: str = "vector"
    shapes: str = "(1, 1, values)"
    layout: str = "[N,1,1,D]"
    file: str = "vector"
    time: None = None
    kinds: tuple[str, ...] = ()

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether they have height and width 1."""
        return len(shape) == 3 and shape[:2] == (1, 1)

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """Squares, row by row, with zeros at the end."""
        n, values = len(examples), examples.shape[-1]
        side = math.ceil(math.sqrt(values))
        filled = np.pad(examples.reshape(n, values), [(0, 0), (0, side**2 - values)])
        return filled.reshape(n, side, side, 1)

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """Refused: how values become levels is the data set's secret."""
        raise Damaged(f"vectors come in an npz, as image uint8 [N, {', '.join(map(str, shape))}]")

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Nothing: the squares show them."""
        return ()


VECTOR = Vector()
