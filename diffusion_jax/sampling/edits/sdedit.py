"""SDEdit (Meng et al. 2022): noise the image to a chosen gamma, and sample from there."""

from dataclasses import dataclass

import numpy as np

from diffusion_jax import rng
from diffusion_jax.allowed import Finite
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits.base import (
    Brush,
    Canvas,
    Inputs,
    Layout,
    cut,
    each,
    refuse_mask,
    whole,
)
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array


@dataclass(frozen=True)
class SDEdit:
    """Changes whole images, as far as `start` allows."""

    start: float
    sees: bool = True

    def lay_out(self, inputs: Inputs) -> Layout:
        """The unchanged images."""
        refuse_mask("sdedit", inputs)
        return each(whole(inputs))

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """From `start` down."""
        return cut(gammas, self.start)

    def check(self, model: Model, method: Method) -> None:
        """No restrictions."""

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The changed images."""
        x = canvas.image
        eps = rng.normal(canvas.keys(rng.stream(key, "start")), x.shape, x.dtype)
        z = brush.noised(x, canvas.cond, eps)
        return brush.draw(z, canvas.cond, canvas.keys(rng.stream(key, "path")))


def make(start: Finite = 0.0) -> SDEdit:
    """SDEdit.

    Args:
        start: gamma at which the image enters; at 0 noise and signal have equal scales.
    """
    return SDEdit(float(start))
