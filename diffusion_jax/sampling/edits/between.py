"""Interpolates between two images along their CLIP embeddings (Ramesh et al. 2022).

The embedding moves along the sphere from one image's vector to the other's. Either the images' ODE
latents are interpolated with it, so that the ends are the images, up to the solvers' errors; or all
frames of a line start from one random latent, so that they share the noise but reproduce neither
image.
"""

from dataclasses import dataclass

import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.allowed import Frames
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.sampling.edits import _clip_vectors, _ode
from diffusion_jax.sampling.edits._pairs import lay_out, mixed, other_cond, slerp
from diffusion_jax.sampling.edits.base import Brush, Canvas, Inputs, Layout, need_stateless
from diffusion_jax.sampling.inversion import need_deterministic
from diffusion_jax.sampling.method import Method
from diffusion_jax.sampling.plans.base import descending
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Array

_LATENTS = ("both", "one")


@dataclass(frozen=True)
class Between:
    """Frames between pairs of images."""

    frames: int
    both: bool
    solver: Sampler
    sees: bool = True

    def lay_out(self, inputs: Inputs) -> Layout:
        """One line of frames for each pair; `extra["vector"]` is each frame's embedding.

        Raises:
            ConfigError: the run takes no embedding, two vectors are opposite, or several lines
                would be equal.
        """
        embedder = _clip_vectors.need_embedder("between", inputs)
        if inputs.each > 1 and self.both:
            raise ConfigError(
                f"between(latent='both') draws no noise, so edit.each={inputs.each} results would "
                "be equal; use edit.each=1, or latent='one'"
            )
        layout = lay_out("between", inputs, self.frames)
        canvas = layout.canvas
        a, b = (embedder.raw(c["embedding"]) for c in (canvas.cond, canvas.extra))
        w = canvas.extra["weight"].astype(np.float64)
        size = _clip_vectors.norm(a) * (1.0 - w[:, None]) + _clip_vectors.norm(b) * w[:, None]
        vector = embedder.of_raw(size * _clip_vectors.slerp("between", a, b, w))
        return Layout(canvas._replace(extra={**canvas.extra, "vector": vector}), layout.columns)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The unchanged grid."""
        return descending(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Raises ConfigError for stateful guidance and, with both latents, for noisy sampling."""
        need_stateless("between", method)
        if self.both:
            need_deterministic(method.sampler)
            _ode.check("between", model, method)

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The frames."""
        x, cond = canvas.image, {**canvas.cond, "embedding": canvas.extra["vector"]}
        if self.both:
            a = _ode.latent(brush, x, canvas.cond, self.solver)
            other = brush.latents(canvas.extra["image"])
            b = _ode.latent(brush, other, other_cond(canvas), self.solver)
            z = slerp(a, b, canvas.extra["weight"].astype(a.dtype))
        else:
            lines = rng.keyed(rng.stream(key, "start"), canvas.extra["line"])
            z = rng.normal(lines, x.shape, x.dtype)
        rest = {k: a for k, a in canvas.cond.items() if k != "embedding"}
        brush = brush.with_wrap(mixed(canvas._replace(cond=rest))) if rest else brush
        return brush.draw(z, cond, canvas.keys(rng.stream(key, "path")))


def make(frames: Frames = 9, latent: str = "both", solver: str = "heun()") -> Between:
    """Interpolation of CLIP embeddings, by an unCLIP decoder.

    Args:
        frames: images per line, both ends included.
        latent: `"both"` to interpolate the latents of the two images, or `"one"` for one random
            latent for all frames of a line.
        solver: a deterministic sampler that finds latents; the run's own sampler decodes.

    Raises:
        ConfigError: `latent` is unknown, or the solver draws noise.
    """
    if latent not in _LATENTS:
        raise ConfigError(f"between: latent={latent!r}; allowed: {', '.join(_LATENTS)}")
    built = registry.build("samplers", solver)
    need_deterministic(built)
    return Between(frames, latent == "both", built)
