"""The contract of a likelihood estimator, which `--mode=eval` evaluates.

There are two kinds. `Bounds` names variational bounds, which are averaged over stratified times. A
`Density` estimates `log P(x)` of each image, as the mean or the log-mean-exp of log-weights

    log w = log p(z_0) + log P(x | z_0) - log q(z_0 | x),   z_0 ~ q(z_0 | x),

where q dequantises the discrete data.
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

    An estimator with several ways to compute a bound may have `describe(latent_noise) -> dict`,
    which describes its choice: JSON-able, with `"latent"` in words for reports. `latent_noise` says
    whether the model has noisy latents.
    """

    def objectives(self, timesteps: tuple[int, ...]) -> dict[str, Objective]:
        """The bounds by name: `"infinity"`, and one for each number of steps."""
        ...


@runtime_checkable
class Density(Protocol):
    """An estimate of `log P(x)` per image.

    Optional members check the estimate:

    * With a solver: `order` (halving the number of steps multiplies the error by `2 ** order`), and
      `coarse(model, params, x, cond, keys) -> [B]`, the `density` of the same draw's first
      log-weight with half the steps, nats.
    * With a map that must be a bijection: `certificate(model, params, x, cond, keys)`, which gives
      named arrays `[B]`, and `verdict(arrays)`, their summary for reports: JSON-able, with
      `"holds"`.

    `of_students = True` declares that the estimate is valid for students of few steps.

    Attributes:
        name: name for files; it includes the choices that change the value.
        k: log-weights per draw; their log-mean-exp is the estimate.
        draws: independent repetitions per image.
    """

    name: str
    k: int
    draws: int

    def check(self, model: Model) -> None:
        """Raises ConfigError if the estimate is not valid for `model`."""

    def describe(self, dims: int) -> dict[str, Any]:
        """All settings that define the estimate, JSON-able, for data of `dims` dimensions."""
        ...

    def __call__(self, model: Model, params: Params, x: Array, cond: Cond, keys: Array) -> Weights:
        """One draw: the log-weights of `x` (model space, `[B, ...]`), from one key per image."""
        ...
