"""Changes a region by class or guidance, starting from the source (Avrahami et al. 2022).

"Blended diffusion": sampling starts from the source noised to `start`. Inside the mask the image is
repainted under the label and the guidance of the run; outside it follows the source. A soft mask
blends the two.
"""

from dataclasses import dataclass

import numpy as np

from diffusion_jax import rng
from diffusion_jax.allowed import Count, Finite
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits._fill import keep, resampled
from diffusion_jax.sampling.edits.base import Brush, Canvas, Inputs, Layout, cut, each, need_mask
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Blend:
    """Paints inside the mask, as far from the source as `start` allows."""

    start: float
    jump: int
    resamplings: int

    def lay_out(self, inputs: Inputs) -> Layout:
        """The unchanged images; soft masks stay soft."""
        need_mask("blend", inputs, whole=True)
        return each(inputs)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """From `start` down."""
        return resampled(cut(gammas, self.start), self.jump, self.resamplings)

    def check(self, model: Model, method: Method) -> None:
        """No restrictions."""

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The changed images."""
        x = canvas.image
        eps = rng.normal(canvas.keys(rng.stream(key, "start")), x.shape, x.dtype)
        z = brush.noised(x, canvas.cond, eps)
        path = canvas.keys(rng.stream(key, "path"))
        return brush.draw(z, canvas.cond, path, keep(brush, x, canvas))


def make(start: Finite = 2.0, jump: Count = 1, resamplings: Count = 1) -> Blend:
    """Blended editing.

    Args:
        start: gamma at which the source enters; higher keeps less of what is under the mask.
        jump: steps per stretch, as in `repaint`.
        resamplings: runs of each stretch; above 1 improves the seam.
    """
    return Blend(float(start), jump, resamplings)
