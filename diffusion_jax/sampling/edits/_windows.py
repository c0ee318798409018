"""A canvas larger than the model's images, or longer in time, as overlapping windows."""

import itertools
import math
from dataclasses import dataclass, fields

import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model, require
from diffusion_jax.sampling.edits.base import Inputs, refuse_mask
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Border:
    """Number of pixels, and of frames of a video, to add or paint at each side."""

    left: int
    right: int
    top: int
    bottom: int
    before: int = 0
    after: int = 0

    def _all(self) -> dict[str, int]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        """The sides that are not zero, as in `left=2, top=1`."""
        return ", ".join(f"{side}={n}" for side, n in self._all().items() if n)

    def check(self, name: str) -> None:
        """Raises ConfigError if a side is negative or all are zero."""
        sides = self._all()
        if min(sides.values()) < 0 or max(sides.values()) == 0:
            values = ", ".join(f"{side}={n}" for side, n in list(sides.items())[:4])
            raise ConfigError(f"{name}: {values}: at least one must be positive, and none negative")

    def sides(self, name: str, axes: int) -> tuple[tuple[int, int], ...]:
        """Sizes added before and after along each axis: time (if `axes` is 3), rows, columns.

        Raises:
            ConfigError: frames are asked for, but there is no time axis.
        """
        space = ((self.top, self.bottom), (self.left, self.right))
        if axes == 2 and (self.before or self.after):
            raise ConfigError(
                f"{name}: before={self.before}, after={self.after} are frames of videos; this "
                "model has left, right, top and bottom"
            )
        return (*((self.before, self.after),)[: axes - 2], *space)

    def around(self, name: str, images: np.ndarray, value: float = 0) -> np.ndarray:
        """`[N, H, W, C]`, or `[N, T, H, W, C]`, with the border added, filled with `value`."""
        sides = self.sides(name, images.ndim - 2)
        return np.pad(images, ((0, 0), *sides, (0, 0)), constant_values=value)

    def inside(self, name: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
        """The part of a canvas inside the border, one slice per axis of space and time.

        Args:
            shape: shape of the canvas `[..., H, W, C]`, without the axis of examples.
        """
        sides = self.sides(name, len(shape) - 1)
        return tuple(slice(a, n - b) for (a, b), n in zip(sides, shape[:-1], strict=True))

    def widened(self, name: str, inputs: Inputs) -> Inputs:
        """The inputs on the larger canvas, with a mask that paints the border."""
        refuse_mask(name, inputs)
        inner = np.zeros((*inputs.images.shape[:-1], 1), np.float32)
        return inputs._replace(
            images=self.around(name, inputs.images), mask=self.around(name, inner, 1.0)
        )

    def window(self, name: str, canvas: tuple[int, ...]) -> tuple[int, ...]:
        """Size of the image inside a canvas `[R, ..., C]`."""
        return tuple(part.stop - part.start for part in self.inside(name, canvas[1:]))


@dataclass(frozen=True)
class Tiling:
    """The windows on a canvas.

    Attributes:
        canvas: size of the canvas, (frames,) height and width.
        window: size of a window, likewise.
        corners: first (frame,) row and column of each window; the source's comes first, then by
            distance from it.
    """

    canvas: tuple[int, ...]
    window: tuple[int, ...]
    corners: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.corners)

    def part(self, corner: tuple[int, ...]) -> tuple[slice, ...]:
        """The part of the canvas that the window with this corner covers."""
        return tuple(slice(a, a + n) for a, n in zip(corner, self.window, strict=True))

    def cut(self, a: Array) -> Array:
        """`[R, H, W, C] -> [R K, h, w, C]`; the K windows of a row are adjacent."""
        every = slice(None)
        tiles = jnp.stack([a[(every, *self.part(c))] for c in self.corners], axis=1)
        return tiles.reshape(-1, *tiles.shape[2:])

    def average(self, tiles: Array) -> Array:
        """`[R K, h, w, C] -> [R, H, W, C]`, the mean of the windows over each pixel."""
        tiles = tiles.reshape(-1, len(self), *tiles.shape[1:])
        total = jnp.zeros((tiles.shape[0], *self.canvas, tiles.shape[-1]), tiles.dtype)
        count = np.zeros((*self.canvas, 1))
        for k, corner in enumerate(self.corners):
            part = self.part(corner)
            total = total.at[(slice(None), *part)].add(tiles[:, k])
            count[part] += 1.0
        return total / jnp.asarray(count, tiles.dtype)


def tiling(
    name: str, canvas: tuple[int, ...], window: tuple[int, ...], border: Border, stride: int
) -> Tiling:
    """Windows that cover the canvas, starting from the one with the source.

    Args:
        name: name of the edit, for error messages.
        canvas: size of the canvas.
        window: size of a window.
        border: sizes added to the source on each side.
        stride: pixels (or frames) from one window to the next; 0 for half a window.

    Raises:
        ConfigError: windows would not overlap.
    """
    axes, sides = [], border.sides(name, len(canvas))
    for size, length, (before, after) in zip(canvas, window, sides, strict=True):
        step = stride or max(1, length // 2)
        if not 1 <= step < length and max(before, after) > 0:
            raise ConfigError(
                f"{name}: stride={stride} must be at least 1 and below the window's {length} "
                "pixels, so that windows overlap"
            )
        # From the source outwards; the last one on each side is moved to the edge of the canvas.
        down = [max(before - step * i, 0) for i in range(math.ceil(before / step) + 1)]
        up = [min(before + step * i, size - length) for i in range(math.ceil(after / step) + 1)]
        axes.append((before, sorted({*down, *up})))
    source = [first for first, _ in axes]
    corners = list(itertools.product(*(places for _, places in axes)))
    corners.sort(key=lambda c: (sum(abs(a - b) for a, b in zip(c, source, strict=True)), c))
    return Tiling(canvas, window, tuple(corners))


def check_labels(name: str, labels: tuple, tiles: Tiling, inputs: Inputs) -> None:
    """Raises ConfigError unless there are no labels, or one per window and a model with classes."""
    if labels and "label" not in inputs.cond:
        raise ConfigError(f"{name}: labels={labels}, but this model is unconditional")
    if labels and len(labels) != len(tiles):
        raise ConfigError(
            f"{name}: {len(labels)} labels for {len(tiles)} windows, whose corners (top, left) are "
            f"{', '.join(map(str, tiles.corners))}; -1 means any class"
        )


def check_classes(name: str, labels: tuple, model: Model) -> None:
    """Raises ConfigError if a label is neither a class nor -1 (any), or there is no null class."""
    if any(not -1 <= label < model.num_classes for label in labels):
        raise ConfigError(
            f"{name}: labels={labels}: the classes are 0 .. {model.num_classes - 1}, and -1 means "
            "any"
        )
    if -1 in labels:
        require(model, f"{name}: a label of -1", "give every window a class", null_class=True)
