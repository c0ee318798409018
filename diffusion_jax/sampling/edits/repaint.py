"""Inpainting with resampling (Lugmayr et al. 2022, "RePaint"): replacement, run again and again.

Every stretch of `jump` steps is run `resamplings` times, going up again by the forward process in
between; the error of replacement falls about as 1 / resamplings.
"""

from dataclasses import dataclass

import numpy as np

from diffusion_jax.allowed import Count
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits._fill import fill, resampled
from diffusion_jax.sampling.edits.base import Brush, Canvas, Inputs, Layout, each, hard, need_mask
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array


@dataclass(frozen=True)
class RePaint:
    """Paints where the mask is white."""

    jump: int
    resamplings: int

    def lay_out(self, inputs: Inputs) -> Layout:
        """The images as they are."""
        inputs = hard(inputs)
        need_mask("repaint", inputs)
        return each(inputs)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """Down, up and down again."""
        return resampled(gammas, self.jump, self.resamplings)

    def check(self, model: Model, method: Method) -> None:
        """Anything goes."""

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The painted images."""
        return fill(brush, canvas, key)


def make(jump: Count = 1, resamplings: Count = 10) -> RePaint:
    """Inpainting with resampling.

    Args:
        jump: steps per stretch (theirs: 10, of 250).
        resamplings: runs of each stretch; 1 is `replace()`.

    Returns:
        The edit; a plan of n steps makes about `n resamplings` of them.
    """
    return RePaint(jump, resamplings)
