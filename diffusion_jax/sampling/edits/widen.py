"""A wider canvas, painted at once from the mean prediction of overlapping windows.

A `Denoiser -> Denoiser` transform (Bar-Tal et al. 2023, "MultiDiffusion"), so it works with every
sampler, and every guidance without momentum. `x` and `eps` are averaged in the same way, which
keeps `z = alpha x + sigma eps`. In each prediction, pixels more than a window apart are
independent, and where windows disagree, their mean is not a prediction of the model: `extend`
paints one window after the other instead.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

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
from diffusion_jax.sampling.edits.base import Brush, Canvas, Edit, Inputs, Layout, need_stateless
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def windowed(denoiser: Denoiser, tiles: Tiling, labels: tuple, null: int) -> Denoiser:
    """A denoiser of canvases `[B, H, W, C]` from one of windows `[B, h, w, C]`.

    Args:
        denoiser: the denoiser of windows.
        tiles: the windows.
        labels: class of each window, -1 for any class; empty for the class of the canvas.
        null: the label of the null class.
    """

    def wide(z: Array, gamma: Array, cond: Cond) -> Pred:
        gamma = jnp.asarray(gamma)
        g = jnp.repeat(gamma, len(tiles), axis=0) if gamma.ndim else gamma
        pred = denoiser(tiles.cut(z), g, _repeated(cond, tiles, labels, null))
        return Pred(*(tiles.average(p) for p in pred))

    return wide


def _repeated(cond: Cond, tiles: Tiling, labels: tuple, null: int) -> Cond:
    cond = jax.tree.map(lambda a: jnp.repeat(a, len(tiles), axis=0), cond)
    if labels:
        classes = np.array([null if label < 0 else label for label in labels], np.int32)
        cond["label"] = jnp.tile(classes, cond["label"].shape[0] // len(tiles))
    return cond


@dataclass(frozen=True)
class Widen:
    """Paints around the source on a canvas of its own."""

    border: Border
    stride: int
    labels: tuple
    inner: Edit

    def _tiles(self, canvas: tuple[int, ...]) -> Tiling:
        window = self.border.window("widen", canvas)
        return tiling("widen", canvas[1:-1], window, self.border, self.stride)

    def lay_out(self, inputs: Inputs) -> Layout:
        """The images on the larger canvas, with the border as the mask."""
        wide = self.border.widened("widen", inputs)
        check_labels("widen", self.labels, self._tiles(wide.images.shape), inputs)
        return self.inner.lay_out(wide)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The plan of the inner edit."""
        return self.inner.plan(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Checks the model, the classes, the guidance and the inner edit."""
        require(model, "edit widen()", "use outpaint(), or a model of pixels", pixels=True)
        need_stateless("widen", method)
        check_classes("widen", self.labels, model)
        self.inner.check(model, method)

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The painted canvases."""
        tiles, null = self._tiles(canvas.image.shape), brush.model.num_classes

        def encode(x: Array, gamma: Array, cond: Cond) -> Array:
            cond = _repeated(cond, tiles, self.labels, null)
            return tiles.average(brush.encoded(tiles.cut(x), gamma, cond))

        wide = brush.with_wrap(lambda d: windowed(d, tiles, self.labels, null))
        return self.inner.paint(replace(wide, encode=encode), canvas, key)


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
) -> Widen:
    """A wider canvas, all windows at once.

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
        inner: how to keep the source: `repaint()`, `posterior()`, ...; None for `replace()`.

    Returns:
        The edit; each network call takes one image per window.
    """
    border = Border(left, right, top, bottom, before, after)
    border.check("widen")
    return Widen(border, stride, tuple(labels), inner or Replace())
