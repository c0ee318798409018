"""A wide canvas as overlapping windows of the model's own size."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model, require
from diffusion_jax.sampling.edits.base import Inputs, refuse_mask
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Border:
    """Pixels added to, or painted at, each side."""

    left: int
    right: int
    top: int
    bottom: int

    def check(self, name: str) -> None:
        """Raises ConfigError if a side is negative or all are zero."""
        sides = (self.left, self.right, self.top, self.bottom)
        if min(sides) < 0 or max(sides) == 0:
            raise ConfigError(
                f"{name}: left={self.left}, right={self.right}, top={self.top}, "
                f"bottom={self.bottom}: at least one must be positive, and none negative"
            )

    def around(self, images: np.ndarray, value: float = 0) -> np.ndarray:
        """`[N, H, W, C]` with the border added, filled with `value`."""
        sides = ((0, 0), (self.top, self.bottom), (self.left, self.right), (0, 0))
        return np.pad(images, sides, constant_values=value)

    def widened(self, name: str, inputs: Inputs) -> Inputs:
        """The inputs on the larger canvas, with a mask that paints the border."""
        refuse_mask(name, inputs)
        inner = np.zeros((*inputs.images.shape[:3], 1), np.float32)
        return inputs._replace(images=self.around(inputs.images), mask=self.around(inner, 1.0))

    def window(self, canvas: tuple[int, ...]) -> tuple[int, int]:
        """Size of the image inside a canvas `[..., H, W, C]`."""
        height, width = canvas[-3:-1]
        return height - self.top - self.bottom, width - self.left - self.right


@dataclass(frozen=True)
class Tiling:
    """Where the windows lie.

    Attributes:
        canvas: height and width.
        window: height and width.
        corners: top and left of each window; the source's own comes first, then by distance.
    """

    canvas: tuple[int, int]
    window: tuple[int, int]
    corners: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.corners)

    def cut(self, a: Array) -> Array:
        """`[R, H, W, C] -> [R K, h, w, C]`, the windows of a row together."""
        h, w = self.window
        tiles = jnp.stack([a[:, y : y + h, x : x + w] for y, x in self.corners], axis=1)
        return tiles.reshape(-1, *tiles.shape[2:])

    def average(self, tiles: Array) -> Array:
        """`[R K, h, w, C] -> [R, H, W, C]`, the mean of the windows over each pixel."""
        h, w = self.window
        tiles = tiles.reshape(-1, len(self), *tiles.shape[1:])
        total = jnp.zeros((tiles.shape[0], *self.canvas, tiles.shape[-1]), tiles.dtype)
        count = np.zeros((*self.canvas, 1))
        for k, (y, x) in enumerate(self.corners):
            total = total.at[:, y : y + h, x : x + w].add(tiles[:, k])
            count[y : y + h, x : x + w] += 1.0
        return total / jnp.asarray(count, tiles.dtype)


def tiling(
    name: str, canvas: tuple[int, int], window: tuple[int, int], border: Border, stride: int
) -> Tiling:
    """Windows that cover the canvas, starting from the one that holds the source.

    Args:
        border: what was added to the source on each side.
        stride: pixels from one window to the next; 0 for half a window.

    Raises:
        ConfigError: windows would not overlap.
    """
    axes = []
    sides = ((border.top, border.bottom), (border.left, border.right))
    for size, length, (before, after) in zip(canvas, window, sides, strict=True):
        step = stride or max(1, length // 2)
        if not 1 <= step < length and max(before, after) > 0:
            raise ConfigError(
                f"{name}: stride={stride} must be at least 1 and below the window's {length} "
                "pixels, so that windows overlap"
            )
        # From the source outwards; the last one on each side is moved in to the canvas' edge.
        down = [max(before - step * i, 0) for i in range(math.ceil(before / step) + 1)]
        up = [min(before + step * i, size - length) for i in range(math.ceil(after / step) + 1)]
        axes.append((before, sorted({*down, *up})))
    (y_0, ys), (x_0, xs) = axes
    corners = [(y, x) for y in ys for x in xs]
    corners.sort(key=lambda c: (abs(c[0] - y_0) + abs(c[1] - x_0), c))
    return Tiling(canvas, window, tuple(corners))


def check_labels(name: str, labels: tuple, tiles: Tiling, inputs: Inputs) -> None:
    """Raises ConfigError unless there are no labels, or one per window and a model with classes."""
    if labels and "label" not in inputs.cond:
        raise ConfigError(f"{name}: labels={labels}, but this model is unconditional")
    if labels and len(labels) != len(tiles):
        raise ConfigError(
            f"{name}: {len(labels)} labels for {len(tiles)} windows, whose corners (top, left) are "
            f"{', '.join(map(str, tiles.corners))}; -1 is any class"
        )


def check_classes(name: str, labels: tuple, model: Model) -> None:
    """Raises ConfigError if a label is neither a class nor -1 (any), or the model knows no -1."""
    if any(not -1 <= label < model.num_classes for label in labels):
        raise ConfigError(
            f"{name}: labels={labels}: there are classes 0 .. {model.num_classes - 1}, and -1 for "
            "any"
        )
    if -1 in labels:
        require(model, f"{name}: a label of -1", "give every window a class", null_class=True)
