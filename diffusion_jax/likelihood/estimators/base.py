"""The contract of a likelihood: what `--mode=eval` measures.

There are two kinds. `Bounds` names variational bounds, averaged over stratified times. A `Density`
estimates `log P(x)` image by image, as the mean or the log-mean-exp of log-weights

    log w = log p(z_0) + log P(x | z_0) - log q(z_0 | x),   z_0 ~ q(z_0 | x),

where q fills the gap between discrete data and a density: the dequantisation.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from diffusion_jax.likelihood.objectives.base import Objective
from diffusion_jax.model import Model
from diffusion_jax.types import Array, Cond, Params


class Weights(NamedTuple):
    """The K log-weights of each image, in two parts, `[B, K]` each, nats.

    Attributes:
        density: `log p(z_0)`.
        correction: `log P(x | z_0) - log q(z_0 | x)`.
    """

    density: Array
    correction: Array


@runtime_checkable
class Bounds(Protocol):
    """Variational bounds on the same images.

    One that computes a bound in one of several ways may have `describe(latent_noise) -> dict`, of
    that way, JSON-able, and in words as `"latent"`: reports show it. `latent_noise` is whether the
    model's latents have noise of their own.
    """

    def objectives(self, timesteps: tuple[int, ...]) -> dict[str, Objective]:
        """The bounds by name: `"infinity"`, and one for each number of steps."""
        ...


@runtime_checkable
class Density(Protocol):
    """An estimate of `log P(x)` per image.

    What may be doubted of it is measured as well. A solver has `order`, halving whose steps
    multiplies its error by `2 ** order`, and
    `coarse(model, params, x, cond, keys) -> [B]`, `density` of the same draw's first log-weight
    with half the steps, nats. A map that is a density only where it is a bijection has
    `certificate(...)`, likewise, of named arrays `[B]`, and `verdict(arrays)`, what a report says
    of them: JSON-able, with `"holds"`. `of_students` declares that it holds of students of few
    steps.

    Attributes:
        name: part of the names of its files, with the choices that change its value.
        k: log-weights per draw; their log-mean-exp is the estimate.
        draws: independent repetitions per image.
    """

    name: str
    k: int
    draws: int

    def check(self, model: Model) -> None:
        """Refuses a model this estimate does not hold for (`ConfigError`)."""

    def describe(self, dims: int) -> dict[str, Any]:
        """All that defines the estimate, JSON-able, for data of `dims` dimensions."""
        ...

    def __call__(self, model: Model, params: Params, x: Array, cond: Cond, keys: Array) -> Weights:
        """One draw: the log-weights of `x` (model space, `[B, ...]`), from one key per image."""
        ...
