"""Signals: values of one or several channels, one after the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from diffusion_jax.data.pictures import Damaged

_HEIGHT, _WIDTH = 64, 192  # of a plot, at least
_COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.6, 0.2), (0.3, 0.7, 1.0), (0.5, 0.9, 0.4), (0.9, 0.4, 0.7))


@dataclass(frozen=True)
class Signal:
    """Signals `(1, T, C)`: images of height 1 to a network, lines to a reader."""

    name: str = "signal"
    shapes: str = "(1, samples, channels)"
    layout: str = "[N,1,T,C]"
    file: str = "signal"
    time: int = 1
    kinds: tuple[str, ...] = ()

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether they have height 1, samples and channels."""
        return len(shape) == 3 and shape[0] == 1

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """Line plots, the top level at the top; every channel has a colour."""
        return np.stack([_plot(e[0], levels) for e in examples])

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """Refused: how values become levels is the data set's secret."""
        raise Damaged(f"signals come in an npz, as image uint8 [N, {', '.join(map(str, shape))}]")

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Nothing: plots show them."""
        return ()


SIGNAL = Signal()


def _plot(values: np.ndarray, levels: int) -> np.ndarray:
    """The plot of `[T, C]`, uint8 `[h, w, 1]`, with several channels `[h, w, 3]`."""
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
