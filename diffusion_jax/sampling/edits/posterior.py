"""Inpainting by posterior sampling (DPS, PiGDM): the known pixels are a measurement.

See `diffusion_jax.sampling.inverse_problems`: the score of the known pixels is added to that of the
model, so that no resampling is needed. With an encoder (DiffEnc), the encoded image is measured,
which is what the denoiser predicts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffusion_jax import rng
from diffusion_jax.allowed import Finite, Positive
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model, need_likelihood
from diffusion_jax.sampling import inverse_problems
from diffusion_jax.sampling.edits._fill import unseen
from diffusion_jax.sampling.edits.base import (
    Brush,
    Canvas,
    Inputs,
    Layout,
    each,
    hard,
    need_mask,
    need_stateless,
)
from diffusion_jax.sampling.guidance.base import Guidance
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import Array, Cond, Denoiser, Pred

_MOST = 256  # limit on known values for `exact`: each costs a backward pass per call


@dataclass(frozen=True)
class Posterior:
    """Paints where the mask is white.

    Attributes:
        guide: `(forward, y) -> Guidance`.
        most: largest number of known values.
    """

    guide: Callable[[Callable, Array], Guidance]
    most: float

    def lay_out(self, inputs: Inputs) -> Layout:
        """The unchanged images, with a hard mask.

        Raises:
            ConfigError: the masks differ, or there are too many known values.
        """
        inputs = hard(inputs)
        need_mask("posterior", inputs)
        layout = each(inputs)
        if layout.shared is None:
            raise ConfigError("posterior needs the same mask for every image; edit them one by one")
        known = int((1.0 - layout.shared).sum()) * inputs.images.shape[-1]
        if known > self.most:
            raise ConfigError(
                f"posterior(method='exact') takes one backward pass for each known value, and "
                f"there are {known} (at most {_MOST}); use method='pigdm'"
            )
        return layout

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The unchanged grid."""
        return gammas

    def check(self, model: Model, method: Method) -> None:
        """Raises ConfigError for stateful guidance, and for students: they predict no mean."""
        need_likelihood(model, "posterior()")
        need_stateless("posterior", method)

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The painted images."""
        x = unseen(canvas)
        assert brush.shared is not None
        mask = np.broadcast_to(brush.shared, x.shape[1:])
        known = np.flatnonzero(mask == 0.0)

        def forward(x: Array) -> Array:
            return x.reshape(x.shape[0], -1)[:, known]

        def wrap(denoiser: Denoiser) -> Denoiser:
            def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
                y = forward(brush.encoded(x, gamma, canvas.cond))
                return self.guide(forward, y)(denoiser, brush.context)(z, gamma, cond)

            return guided

        z = rng.normal(canvas.keys(rng.stream(key, "start")), x.shape, x.dtype)
        return brush.with_wrap(wrap).draw(z, canvas.cond, canvas.keys(rng.stream(key, "path")))


def make(
    method: str = "pigdm", noise: Positive = 0.05, scale: Finite = 1.0, limit: Positive = 1.0
) -> Posterior:
    """Inpainting by posterior sampling, given the known pixels.

    Args:
        method: `"exact"` (posterior of Gaussian data; few known values only), `"pigdm"` or `"dps"`.
        noise: standard deviation of the known pixels, in model units (grey levels lie in [-1, 1]).
        scale: for `dps`, how strongly to follow the measurement.
        limit: for `dps`, largest root mean square of the change in eps.

    Raises:
        ConfigError: the method is unknown.
    """
    methods = {
        "exact": lambda forward, y: inverse_problems.exact(forward, y, noise**2),
        "pigdm": lambda forward, y: inverse_problems.pigdm(forward, y, noise**2),
        "dps": lambda forward, y: inverse_problems.dps(forward, y, scale, limit),
    }
    if method not in methods:
        raise ConfigError(f"posterior: method={method!r}; allowed: {', '.join(methods)}")
    return Posterior(methods[method], _MOST if method == "exact" else math.inf)
