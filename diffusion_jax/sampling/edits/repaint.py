"""Inpainting with resampling (Lugmayr et al. 2022, "RePaint"): repeated replacement.

Every stretch of `jump` steps is run `resamplings` times, returning to its start by the forward
process each time; the error of replacement falls roughly as 1 / resamplings.
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
        """The unchanged images, with hard masks."""
        inputs = hard(inputs)
        need_mask("repaint", inputs)
        return each(inputs)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """Down, up and down again."""
        return resampled(gammas, self.jump, self.resamplings)

    def check(self, model: Model, method: Method) -> None:
        """No restrictions."""

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The painted images."""
        return fill(brush, canvas, key)


def make(jump: Count = 1, resamplings: Count = 10) -> RePaint:
    """Inpainting with resampling.

    Args:
        jump: steps per stretch (in the paper 10, of 250 steps).
        resamplings: number of runs of each stretch; 1 is `replace()`.

    Returns:
        The edit; a plan of n steps becomes one of about `n resamplings`.
    """
    return RePaint(jump, resamplings)
