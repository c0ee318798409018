"""Variations of an image: its CLIP embedding is kept, the rest is redrawn (Ramesh et al. 2022).

The image is represented by its CLIP embedding and its latent under the probability-flow ODE with
that embedding. A sampler with noise `eta` decodes the latent: 0 reproduces the image, up to the
solvers' errors, and what survives a larger `eta` is what the embedding encodes.
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
        """The unchanged images; raises ConfigError if several results would be equal."""
        refuse_mask("vary", inputs)
        _clip_vectors.need_embedder("vary", inputs)
        if inputs.each > 1 and self.eta == 0.0:
            raise ConfigError(
                f"vary(eta=0.0) draws no noise, so edit.each={inputs.each} results would be equal; "
                "use edit.each=1, or eta above 0"
            )
        return each(whole(inputs))

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The unchanged grid."""
        return descending(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Raises ConfigError for samplers without eta, correctors, stateful guidance, students."""
        _ode.check("vary", model, method)
        self._noisy(method.sampler)

    def _noisy(self, sampler: Sampler) -> Sampler:
        """The sampler with noise `eta`."""
        if self.eta == 0.0:
            need_deterministic(sampler)
            return sampler
        if "eta" not in {f.name for f in fields(sampler)}:  # pyright: ignore[reportArgumentType]
            raise ConfigError(
                f"vary(eta={self.eta}): sampler {type(sampler).__name__} has no eta (noise level); "
                "use ddim() or dpmpp_2m()"
            )
        return replace(sampler, eta=self.eta)  # pyright: ignore[reportArgumentType,reportCallIssue]

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The variations."""
        z = _ode.latent(brush, canvas.image, canvas.cond, self.solver)
        method = replace(brush.method, sampler=self._noisy(brush.method.sampler))
        key = canvas.keys(rng.stream(key, "path"))
        return replace(brush, method=method).draw(z, canvas.cond, key)


def make(eta: Share = 1.0, solver: str = "heun()") -> Vary:
    """Variations, by an unCLIP decoder.

    Args:
        eta: noise level of the run's own sampler, which must have an `eta` (`ddim()`,
            `dpmpp_2m()`); 0 reproduces the image.
        solver: a deterministic sampler that finds the latent.
    """
    built = registry.build("samplers", solver)
    need_deterministic(built)
    return Vary(float(eta), built)
