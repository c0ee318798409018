"""From one image to another through the latents of the probability-flow ODE.

Both are encoded by the ODE run upwards, latents between them are taken on the sphere, and a
deterministic sampler decodes (Song et al. 2020, "DDIM", section 5.3). The ends are the images, up
to the error of the two solvers.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.allowed import Frames
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits._pairs import lay_out, mixed, other_cond, slerp
from diffusion_jax.sampling.edits.base import Brush, Canvas, Inputs, Layout, need_stateless
from diffusion_jax.sampling.encoded import for_sampler
from diffusion_jax.sampling.inversion import invert, need_deterministic
from diffusion_jax.sampling.method import Method
from diffusion_jax.sampling.plans.base import descending
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Array, Cond, alpha


@dataclass(frozen=True)
class Interpolate:
    """Frames between pairs of images."""

    frames: int
    solver: Sampler

    def lay_out(self, inputs: Inputs) -> Layout:
        """One line of frames for each pair; ConfigError if several results per pair are asked."""
        if inputs.each > 1:
            raise ConfigError(
                f"interpolate draws no noise, so edit.each={inputs.each} results would be equal; "
                "use edit.each=1, or interpolate_noise()"
            )
        return lay_out("interpolate", inputs, self.frames)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The grid as it is."""
        return descending(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Refuses what cannot be inverted.

        Raises:
            ConfigError: the sampler draws noise, there is a corrector, the plan moves up, or the
                guidance has state.
        """
        need_stateless("interpolate", method)
        need_deterministic(method.sampler)
        if method.correct is not None:
            raise ConfigError("interpolate: a corrector draws noise; use corrector='none()'")
        if np.any(np.diff(method.gammas) > 0.0):
            raise ConfigError("interpolate: a plan that goes up draws noise; use plan='once()'")

    def _latent(self, brush: Brush, x: Array, cond: Cond) -> Array:
        model, gammas = brush.model, brush.method.gammas[::-1]
        c = model.traits.mean_coefficient
        guided = brush.guidance()(model.denoiser(brush.params), brush.context)
        denoise = for_sampler(with_condition(guided, cond), c, self.solver)
        low = jnp.asarray(gammas[0], x.dtype)
        return invert(denoise, self.solver, gammas, alpha(low) * brush.encoded(x, low, cond))

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The frames."""
        other = brush.latents(canvas.extra["image"])
        a = self._latent(brush, canvas.image, canvas.cond)
        b = self._latent(brush, other, other_cond(canvas))
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
