"""Shared by several edits: painting under a mask while the rest follows the source."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.model import Model
from diffusion_jax.sampling import replacement
from diffusion_jax.sampling.edits.base import Brush, Canvas, Inputs, Layout, each, hard, need_mask
from diffusion_jax.sampling.method import Method
from diffusion_jax.sampling.plans import repaint
from diffusion_jax.types import Array


def keep(brush: Brush, x: Array, canvas: Canvas[Array]) -> Callable[[Array, Array, Array], Array]:
    """The `constrain` hook that keeps the source `x` (encoded at each gamma) outside the mask."""
    return replacement.make(lambda gamma: brush.encoded(x, gamma, canvas.cond), 1.0 - canvas.mask)


def unseen(canvas: Canvas[Array]) -> Array:
    """The source, grey under the mask: an encoder must not see what is painted over."""
    return jnp.where(canvas.mask > 0.0, 0.0, canvas.image)


def fill(brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
    """Paints from pure noise; `canvas` is in model space."""
    constrain = keep(brush, unseen(canvas), canvas)
    z = rng.normal(canvas.keys(rng.stream(key, "start")), canvas.image.shape, canvas.image.dtype)
    start = jnp.asarray(brush.method.gammas[0], z.dtype)
    z = constrain(z, start, canvas.keys(rng.stream(key, "known")))
    return brush.draw(z, canvas.cond, canvas.keys(rng.stream(key, "path")), constrain)


def resampled(gammas: np.ndarray, jump: int, resamplings: int) -> np.ndarray:
    """The plan that runs every `jump` steps `resamplings` times; see `plans.repaint`."""
    return repaint.make(jump, resamplings)(gammas)


@dataclass(frozen=True)
class Replace:
    """Paints where the mask is white, by replacement; see `edits.replace`."""

    def lay_out(self, inputs: Inputs) -> Layout:
        """The unchanged images, with hard masks."""
        inputs = hard(inputs)
        need_mask("replace", inputs)
        return each(inputs)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The unchanged grid."""
        return gammas

    def check(self, model: Model, method: Method) -> None:
        """No restrictions."""

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The painted images."""
        return fill(brush, canvas, key)
