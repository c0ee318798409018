"""Still images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Image:
    """Grey or colour images `(H, W, C)`."""

    name: str = "image"
    shapes: str = "(height, width, 1 or 3)"
    layout: str = "[N,H,W,C] with 1 or 3 channels"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether they have height, width and 1 or 3 channels."""
        return len(shape) == 3 and shape[-1] in (1, 3)

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """The images."""
        return examples

    def keep(self, path: Path, examples: np.ndarray, levels: int) -> tuple[Path, ...]:
        """Nothing: a sheet shows them."""
        return ()


IMAGE = Image()
