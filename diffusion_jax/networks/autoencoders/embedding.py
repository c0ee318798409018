"""Levels as learned vectors, for text, whose letters have no order.

Every value of the data becomes its row of a table, and the vectors diffuse (Gulrajani & Hashimoto
2023, "Likelihood-based diffusion language models"); the bound itself trains the table. Rows have a
fixed norm, which would otherwise only grow. A value is decoded from its noisy vector,
`P(k | y_0) = softmax_k(-|y_0 - e_k|^2 / (2 e^{gamma_0}))`.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Levels, Positive
from diffusion_jax.networks.heads.base import levels_of
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Embedding:
    """See the module docstring; `make` documents the settings."""

    dims: int
    levels: int
    rate: float
    noisy: bool = False
    discrete: bool = True
    sequential: bool = False
    pointwise: bool = True
    gamma_min: float = -3.0

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`dims` channels for each channel of the data."""
        return (*shape[:-1], shape[-1] * self.dims)

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """The table, `[V, dims]`."""
        return {"table": jax.random.normal(key, (self.levels, self.dims))}

    def vectors(self, params: Params) -> Array:
        """The vector of each level, `[V, dims]`, with mean square 1."""
        table = params["table"]
        norm = jnp.sqrt(jnp.square(table).sum(-1, keepdims=True) + 1e-12)
        return table * (math.sqrt(self.dims) / norm)

    def encode(self, params: Params, x: Array, keys: Array | None = None) -> tuple[Array, None]:
        """The vectors of the values, concatenated over channels."""
        vectors = self.vectors(params)[levels_of(x, self.levels)]
        return vectors.reshape(*x.shape[:-1], -1), None

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, keys: Array | None = None
    ) -> Array:
        """Log-probability of the values, nats, `[B]`."""
        log_probs = self.log_probs(params, x, y_0, gamma_0)
        true = levels_of(x, self.levels)[..., None]
        log_p = jnp.take_along_axis(log_probs, true, axis=-1)
        return log_p.sum(axis=tuple(range(1, log_p.ndim)))

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """Log-probabilities of every level, from the distances to their vectors."""
        # All vectors have the same length, so inner products can replace distances.
        return jax.nn.log_softmax(self._products(params, y_0) * jnp.exp(-gamma_0))

    def decode(self, params: Params, y_0: Array) -> Array:
        """The levels with the nearest vectors."""
        return self._products(params, y_0).argmax(-1).astype(jnp.uint8)

    def _products(self, params: Params, y: Array) -> Array:
        """Inner products with the vectors of all levels, `[B, ..., C, V]`."""
        return y.reshape(*y.shape[:-1], -1, self.dims) @ self.vectors(params).T


def make(dims: Count = 16, rate: Positive = 3.0, levels: Levels = 256) -> Embedding:
    """Learned vectors of levels.

    Args:
        dims: number of dimensions of a vector.
        rate: factor of the learning rate for the vectors.
        levels: number of levels of the data, for example of letters in the alphabet.
    """
    return Embedding(dims, levels, rate)
