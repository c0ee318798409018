"""Interpolates between two images, both noised to a chosen gamma (Ho et al. 2020, figure 8).

Both receive the same noise; their latents are interpolated on the sphere and denoised by any
sampler. The ends are variations of the images, closer to them if `start` is lower.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.allowed import Finite, Frames
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits._pairs import lay_out, mixed, other_cond, slerp
from diffusion_jax.sampling.edits.base import Brush, Canvas, Inputs, Layout, cut, need_stateless
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array


@dataclass(frozen=True)
class InterpolateNoise:
    """Frames between pairs of images."""

    frames: int
    start: float
    sees: bool = True

    def lay_out(self, inputs: Inputs) -> Layout:
        """One line of frames for each pair."""
        return lay_out("interpolate_noise", inputs, self.frames)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """From `start` down."""
        return cut(gammas, self.start)

    def check(self, model: Model, method: Method) -> None:
        """Raises ConfigError for stateful guidance."""
        need_stateless("interpolate_noise", method)

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The frames."""
        x, root = canvas.image, rng.stream(key, "start")
        eps = rng.normal(rng.keyed(root, canvas.extra["line"]), x.shape, x.dtype)
        other = brush.latents(canvas.extra["image"])
        a = brush.noised(x, canvas.cond, eps)
        b = brush.noised(other, other_cond(canvas), eps)
        z = slerp(a, b, jnp.asarray(canvas.extra["weight"], x.dtype))
        return brush.with_wrap(mixed(canvas)).draw(
            z, canvas.cond, canvas.keys(rng.stream(key, "path"))
        )


def make(frames: Frames = 9, start: Finite = 1.0) -> InterpolateNoise:
    """Interpolation through shared noise.

    Args:
        frames: images per line, both ends included.
        start: gamma of the noise.
    """
    return InterpolateNoise(frames, float(start))
