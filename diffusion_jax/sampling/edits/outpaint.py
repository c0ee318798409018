"""Outpainting on the image's own canvas: the border is painted and the middle kept.

For a video also its first or last frames, which is prediction backwards or forwards in time.
"""

from dataclasses import dataclass

import numpy as np

from diffusion_jax.allowed import Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits._fill import Replace
from diffusion_jax.sampling.edits._windows import Border
from diffusion_jax.sampling.edits.base import Brush, Canvas, Edit, Inputs, Layout, refuse_mask
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Outpaint:
    """Paints a border of the given widths by an inpainting edit."""

    border: Border
    inner: Edit

    def lay_out(self, inputs: Inputs) -> Layout:
        """The unchanged images, with the border as the mask.

        Raises:
            ConfigError: there is a mask, or nothing would be kept.
        """
        refuse_mask("outpaint", inputs)
        shape = inputs.images.shape
        inside = self.border.inside("outpaint", shape[1:])
        if any(part.start >= part.stop for part in inside):
            size = "x".join(map(str, shape[1:-1]))
            raise ConfigError(
                f"outpaint: the border ({self.border}) covers the whole {size} image; paint less, "
                "or use widen() for a larger canvas"
            )
        mask = np.ones((*shape[:-1], 1), np.float32)
        mask[(slice(None), *inside)] = 0.0
        return self.inner.lay_out(inputs._replace(mask=mask))

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The plan of the inner edit."""
        return self.inner.plan(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Checks the inner edit."""
        self.inner.check(model, method)

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The painted images."""
        return self.inner.paint(brush, canvas, key)


def make(
    left: Whole = 0,
    right: Whole = 0,
    top: Whole = 0,
    bottom: Whole = 0,
    before: Whole = 0,
    after: Whole = 0,
    inner: Edit | None = None,
) -> Outpaint:
    """Outpainting at the border.

    Args:
        left: columns to paint.
        right: columns to paint.
        top: rows to paint.
        bottom: rows to paint.
        before: frames to paint at the start of a video.
        after: frames to paint at its end.
        inner: how to paint: `repaint()`, `posterior()`, ...; None for `replace()`.
    """
    border = Border(left, right, top, bottom, before, after)
    border.check("outpaint")
    return Outpaint(border, inner or Replace())
