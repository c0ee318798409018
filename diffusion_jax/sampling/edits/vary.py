"""Variations of an image: what a CLIP sees in it stays, the rest is drawn (Ramesh et al. 2022).

The image is a pair: what the CLIP sees, and the latent at the end of the probability-flow ODE under
it. A sampler with noise `eta` takes the latent down again: 0 gives the image back, up to the
solvers' errors, and what stays as `eta` grows is what the CLIP knows.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.allowed import Share
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits import _clip_vectors, _ode
from diffusion_jax.sampling.edits.base import (
    Brush,
    Canvas,
    Inputs,
    Layout,
    each,
    refuse_mask,
    whole,
)
from diffusion_jax.sampling.inversion import need_deterministic
from diffusion_jax.sampling.method import Method
from diffusion_jax.sampling.plans.base import descending
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Vary:
    """Variations of single images."""

    eta: float
    solver: Sampler
    sees: bool = True

    def lay_out(self, inputs: Inputs) -> Layout:
        """The images as they are; ConfigError if several equal results are asked for."""
        refuse_mask("vary", inputs)
        _clip_vectors.need_embedder("vary", inputs)
        if inputs.each > 1 and self.eta == 0.0:
            raise ConfigError(
                f"vary(eta=0.0) draws no noise, so edit.each={inputs.each} results would be equal; "
                "use edit.each=1, or eta above 0"
            )
        return each(whole(inputs))

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The grid as it is."""
        return descending(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Refuses samplers that cannot draw so much noise, correctors, and guidance with state."""
        _ode.check("vary", model, method)
        self._noisy(method.sampler)

    def _noisy(self, sampler: Sampler) -> Sampler:
        """The sampler with this much noise."""
        if self.eta == 0.0:
            need_deterministic(sampler)
            return sampler
        if "eta" not in {f.name for f in fields(sampler)}:  # pyright: ignore[reportArgumentType]
            raise ConfigError(
                f"vary(eta={self.eta}): sampler {type(sampler).__name__} has no eta, the noise on "
                "its way; use ddim() or dpmpp_2m()"
            )
        return replace(sampler, eta=self.eta)  # pyright: ignore[reportArgumentType,reportCallIssue]

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The variations."""
        z = _ode.latent(brush, canvas.image, canvas.cond, self.solver)
        method = replace(brush.method, sampler=self._noisy(brush.method.sampler))
        key = canvas.keys(rng.stream(key, "path"))
        return replace(brush, method=method).draw(z, canvas.cond, key)


def make(eta: Share = 1.0, solver: str = "heun()") -> Vary:
    """Variations, by a decoder that is told what a CLIP sees.

    Args:
        eta: noise on the way down, as in the run's own sampler, which must have some (`ddim()`,
            `dpmpp_2m()`); 0 gives the image itself.
        solver: a deterministic sampler that finds the latent.
    """
    built = registry.build("samplers", solver)
    need_deterministic(built)
    return Vary(float(eta), built)
