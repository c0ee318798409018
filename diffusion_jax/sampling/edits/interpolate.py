"""Interpolates between two images through their latents under the probability-flow ODE.

The ODE, run upwards, encodes both images; their latents are interpolated on the sphere and decoded
by a deterministic sampler (Song et al. 2020, "DDIM", section 5.3). The ends are the images, up to
the errors of the two solvers.
"""

from dataclasses import dataclass

import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.allowed import Frames
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits import _ode
from diffusion_jax.sampling.edits._pairs import lay_out, mixed, other_cond, slerp
from diffusion_jax.sampling.edits.base import Brush, Canvas, Inputs, Layout
from diffusion_jax.sampling.inversion import need_deterministic
from diffusion_jax.sampling.method import Method
from diffusion_jax.sampling.plans.base import descending
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Interpolate:
    """Frames between pairs of images."""

    frames: int
    solver: Sampler
    sees: bool = True

    def lay_out(self, inputs: Inputs) -> Layout:
        """One line of frames for each pair; raises ConfigError if several lines would be equal."""
        if inputs.each > 1:
            raise ConfigError(
                f"interpolate draws no noise, so edit.each={inputs.each} results would be equal; "
                "use edit.each=1, or interpolate_noise()"
            )
        return lay_out("interpolate", inputs, self.frames)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The unchanged grid."""
        return descending(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Checks that sampling can be inverted.

        Raises:
            ConfigError: the sampler draws noise, there is a corrector, the plan moves up, or the
                guidance has state.
        """
        need_deterministic(method.sampler)
        _ode.check("interpolate", model, method)

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The frames."""
        other = brush.latents(canvas.extra["image"])
        a = _ode.latent(brush, canvas.image, canvas.cond, self.solver)
        b = _ode.latent(brush, other, other_cond(canvas), self.solver)
        z = slerp(a, b, canvas.extra["weight"].astype(a.dtype))
        return brush.with_wrap(mixed(canvas)).draw(
            z, canvas.cond, canvas.keys(rng.stream(key, "path"))
        )


def make(frames: Frames = 9, solver: str = "heun()") -> Interpolate:
    """Interpolation by the probability-flow ODE.

    Args:
        frames: images per line, both ends included.
        solver: a deterministic sampler that encodes; the run's own sampler decodes.
    """
    built = registry.build("samplers", solver)
    need_deterministic(built)
    return Interpolate(frames, built)
