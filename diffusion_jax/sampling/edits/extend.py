"""A wider canvas, or a longer video, painted window by window from the source outwards.

Each window is conditioned on its overlap with those painted before. For data that are Markov along
the canvas, with an overlap as long as their memory and an exact inner inpainting, the canvas has
the exact distribution.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.allowed import Whole
from diffusion_jax.model import Model, require
from diffusion_jax.sampling.edits._fill import Replace
from diffusion_jax.sampling.edits._windows import (
    Border,
    Tiling,
    check_classes,
    check_labels,
    tiling,
)
from diffusion_jax.sampling.edits.base import Brush, Canvas, Edit, Inputs, Layout, each
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array

Part = tuple[slice, ...]


@dataclass(frozen=True)
class Extend:
    """Paints around the source on a canvas of its own."""

    border: Border
    stride: int
    labels: tuple
    inner: Edit

    def _tiles(self, canvas: tuple[int, ...]) -> Tiling:
        window = self.border.window("extend", canvas)
        return tiling("extend", canvas[1:-1], window, self.border, self.stride)

    def _steps(self, canvas: tuple[int, ...]) -> list[tuple[int, Part, np.ndarray]]:
        """The windows with pixels to paint: number, part of the canvas, mask `[..., h, w, 1]`."""
        tiles = self._tiles(canvas)
        unknown = np.ones((*tiles.canvas, 1), np.float32)
        out = []
        for k, corner in enumerate(tiles.corners):
            part = tiles.part(corner)
            if k and unknown[part].any():
                out.append((k, part, unknown[part].copy()))
            unknown[part] = 0.0
        return out

    def lay_out(self, inputs: Inputs) -> Layout:
        """The images on the larger canvas; checks that the inner edit accepts every window."""
        wide = self.border.widened("extend", inputs)
        check_labels("extend", self.labels, self._tiles(wide.images.shape), inputs)
        for _, _, mask in self._steps(wide.images.shape):
            masks = np.broadcast_to(mask, (len(inputs.images), *mask.shape))
            self.inner.lay_out(inputs._replace(mask=masks))
        return each(wide)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The plan of the inner edit."""
        return self.inner.plan(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Checks the model, the classes and the inner edit."""
        require(model, "edit extend()", "use outpaint(), or a model of pixels", pixels=True)
        check_classes("extend", self.labels, model)
        self.inner.check(model, method)

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The painted canvases."""
        x, decoder = canvas.image, brush.model.decoder
        stored = False
        for k, part, mask in self._steps(x.shape):
            at = (slice(None), *part)
            window = x[at]
            masks = jnp.broadcast_to(jnp.asarray(mask, x.dtype), (*window.shape[:-1], 1))
            cond = dict(canvas.cond)
            if self.labels:
                label = self.labels[k] if self.labels[k] >= 0 else brush.model.num_classes
                cond["label"] = jnp.full_like(cond["label"], label)
            painted = self.inner.paint(
                replace(brush, shared=mask),
                Canvas(window, masks, cond, {}, canvas.row),
                rng.stream(key, "window", k),
            )
            stored = jnp.issubdtype(painted.dtype, jnp.integer)
            painted = decoder.encode(painted) if stored else painted
            x = x.at[at].set(jnp.where(mask > 0.0, painted, window))
        return decoder.decode(x) if stored else x


def make(
    left: Whole = 0,
    right: Whole = 0,
    top: Whole = 0,
    bottom: Whole = 0,
    before: Whole = 0,
    after: Whole = 0,
    stride: Whole = 0,
    labels: tuple = (),
    inner: Edit | None = None,
) -> Extend:
    """A wider canvas, one window after the other.

    Args:
        left: columns to add.
        right: columns to add.
        top: rows to add.
        bottom: rows to add.
        before: frames to add at the start of a video.
        after: frames to add at its end.
        stride: pixels, or frames, from one window to the next; 0 for half a window.
        labels: class of each window, the source's first and then by distance; -1 for any class.
            Empty to give every window the label of the image.
        inner: how to paint a window: `repaint()`, `posterior()`, ...; None for `replace()`.

    Returns:
        The edit; it runs the plan once for each window except the source's.
    """
    border = Border(left, right, top, bottom, before, after)
    border.check("extend")
    return Extend(border, stride, tuple(labels), inner or Replace())
