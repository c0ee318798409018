"""Changes an image by the difference between two texts (Ramesh et al. 2022, "text diffs").

With `t` and `t_0` the CLIP's unit vectors of the texts, the embedding of the image moves along the
sphere towards `t - t_0`, by the share `theta` of the angle. The ODE latent is kept, so that
`theta = 0` reproduces the image, up to the solvers' errors.
"""

from dataclasses import dataclass

import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.allowed import Share
from diffusion_jax.data import vectors
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
class TextDiff:
    """Changes single images."""

    from_text: str
    to_text: str
    theta: float
    solver: Sampler
    sees: bool = True

    @property
    def aim(self) -> str:
        """The text that the results are to show."""
        return self.to_text

    def lay_out(self, inputs: Inputs) -> Layout:
        """The unchanged images; `extra["vector"]` is the embedding that replaces theirs.

        Raises:
            ConfigError: there is a mask, the run takes no embedding, the CLIP sees no difference,
                or several results would be equal.
        """
        refuse_mask("textdiff", inputs)
        embedder = _clip_vectors.need_embedder("textdiff", inputs)
        if inputs.each > 1:
            raise ConfigError(
                f"textdiff draws no noise, so edit.each={inputs.each} results would be equal; use "
                "edit.each=1"
            )
        old, new = vectors.unit(embedder.texts([self.from_text, self.to_text]))
        if not np.abs(new - old).max() > 0.0:
            raise ConfigError(
                f"textdiff: the CLIP sees no difference between {self.from_text!r} and "
                f"{self.to_text!r}"
            )
        raw = embedder.raw(inputs.cond["embedding"])
        direction = np.broadcast_to(new - old, raw.shape)
        vector = embedder.of_raw(
            _clip_vectors.norm(raw) * _clip_vectors.slerp("textdiff", raw, direction, self.theta)
        )
        layout = each(whole(inputs))
        canvas = layout.canvas._replace(extra={"vector": vector})
        return Layout(canvas, layout.columns, layout.shared)

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The unchanged grid."""
        return descending(gammas)

    def check(self, model: Model, method: Method) -> None:
        """Raises ConfigError for sampling that cannot be inverted, and stateful guidance."""
        need_deterministic(method.sampler)
        _ode.check("textdiff", model, method)

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The changed images."""
        z = _ode.latent(brush, canvas.image, canvas.cond, self.solver)
        cond = {**canvas.cond, "embedding": canvas.extra["vector"]}
        return brush.draw(z, cond, canvas.keys(rng.stream(key, "path")))


def make(
    from_text: str = "", to_text: str = "", theta: Share = 0.35, solver: str = "heun()"
) -> TextDiff:
    """A change from one text to another, by an unCLIP decoder.

    Args:
        from_text: what the image shows, such as `"a red three"`.
        to_text: what it is to show.
        theta: how far to move, as a share of the angle; useful values are 0.25 to 0.5.
        solver: a deterministic sampler that finds the latent; the run's own sampler decodes.

    Raises:
        ConfigError: the texts are equal, or the solver draws noise.
    """
    if from_text == to_text:
        raise ConfigError(
            f"textdiff: from_text and to_text are both {to_text!r}; give two texts, as in "
            "textdiff('a red three', 'a blue three')"
        )
    built = registry.build("samplers", solver)
    need_deterministic(built)
    return TextDiff(from_text, to_text, float(theta), built)
