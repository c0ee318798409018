"""The contract of a final step: `(denoise, z, gamma, decoder) -> data`, and its network calls."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax

from diffusion_jax.model import Model, require
from diffusion_jax.networks.heads import base as heads
from diffusion_jax.sampling.samplers.base import Denoise
from diffusion_jax.types import Array, Params


class Reader(Protocol):
    """Maps `y_0 = z_0 / alpha_0` to data: a decoder, or a model with its weights."""

    def decode(self, y: Array) -> Array:
        """The most probable data."""
        ...


@dataclass(frozen=True)
class Readout:
    """Maps the last latent to data: a model with its weights, and keys for draws."""

    model: Model
    params: Params
    keys: Array | None = None

    def decode(self, y: Array) -> Array:
        """The most probable data."""
        return self.model.decode(self.params, y)

    def sample(self, y: Array, gamma: Array) -> Array:
        """Data drawn from `P(x | z_0)`, uint8."""
        assert self.keys is not None
        model, params = self.model, self.params
        require(model, "final='sample()'", "use final='decode()'", discrete=True)

        def log_probs(image: Array) -> Array:
            return model.log_probs(params, model.decoder.encode(image), y, gamma)

        shape = jax.eval_shape(self.decode, y).shape
        return heads.fill(log_probs, shape, model.space.sequential, heads.by_chance(self.keys))


@runtime_checkable
class Final(Protocol):
    """From the last latent to data.

    A final step whose output is real numbers instead of levels declares `reals = True`.

    Attributes:
        nfe: number of network calls that it makes.
    """

    @property
    def nfe(self) -> int: ...  # noqa: D102

    def __call__(self, denoise: Denoise, z: Array, gamma: Array, decoder: Reader) -> Array:
        """Data for the latent `z` at `gamma`, the end of the plan."""
        ...
