"""Signals: time series of one or several channels."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from diffusion_jax.data.pictures import Damaged

_HEIGHT, _WIDTH = 64, 192  # height and minimum width of a plot
_COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.6, 0.2), (0.3, 0.7, 1.0), (0.5, 0.9, 0.4), (0.9, 0.4, 0.7))


@dataclass(frozen=True)
class Signal:
    """Signals `(1, T, C)`: images of height 1 for a network, shown as line plots."""

    name: str = "signal"
    shapes: str = "(1, samples, channels)"
    layout: str = "[N,1,T,C]"
    file: str = "signal"
    time: int = 1
    kinds: tuple[str, ...] = ()

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the shape is `(1, T, C)`."""
        return len(shape) == 3 and shape[0] == 1

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """Line plots, with the highest level at the top and one colour for each channel."""
        return np.stack([_plot(e[0], levels) for e in examples])

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """Not supported: only the data set knows how values were quantised."""
        raise Damaged(
            f"signals must be in an npz, as image uint8 [N, {', '.join(map(str, shape))}]"
        )

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Writes no files, because plots show everything."""
        return ()


SIGNAL = Signal()


def _plot(values: np.ndarray, levels: int) -> np.ndarray:
    """Plots `[T, C]` as uint8 `[h, w, 1]`, or `[h, w, 3]` for several channels."""
    from PIL import Image, ImageDraw

    count, channels = values.shape
    step = max(1, -(-_WIDTH // max(count - 1, 1)))
    size = ((count - 1) * step + 1, _HEIGHT)
    x = np.arange(count) * step
    y = (_HEIGHT - 1) * (1.0 - values.astype(float) / (levels - 1))
    layers = []
    for c in range(channels):
        picture = Image.new("L", size)
        line = list(zip(x.tolist(), y[:, c].tolist(), strict=True))
        ImageDraw.Draw(picture).line(line, fill=1)
        layers.append(np.asarray(picture, np.float64)[..., None] * (levels - 1))
    if channels == 1:
        return layers[0].astype(np.uint8)
    drawn = [layer * np.asarray(_COLOURS[c % len(_COLOURS)]) for c, layer in enumerate(layers)]
    return np.round(np.max(drawn, axis=0)).astype(np.uint8)
