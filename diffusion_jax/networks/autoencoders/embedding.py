"""Levels as learned vectors: what text diffuses as, its letters having no order.

Every value of the data is its row of a table E, and the vectors diffuse (Gulrajani & Hashimoto
2023, "Likelihood-based diffusion language models"); the table is learned by the bound itself. Rows
keep their norm, or it would grow for nothing. A value is read from its noisy vector as a level from
its pixel, `P(k | y_0) = softmax_k(-|y_0 - e_k|^2 / (2 e^{gamma_0}))`.
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
        """The vector of each level, `[V, dims]`, of mean square 1."""
        table = params["table"]
        norm = jnp.sqrt(jnp.square(table).sum(-1, keepdims=True) + 1e-12)
        return table * (math.sqrt(self.dims) / norm)

    def encode(self, params: Params, x: Array, keys: Array | None = None) -> tuple[Array, None]:
        """The vectors of the values, side by side."""
        found = self.vectors(params)[levels_of(x, self.levels)]
        return found.reshape(*x.shape[:-1], -1), None

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, keys: Array | None = None
    ) -> Array:
        """Log-probability of the values, nats, `[B]`."""
        every = self.log_probs(params, x, y_0, gamma_0)
        true = levels_of(x, self.levels)[..., None]
        log_p = jnp.take_along_axis(every, true, axis=-1)
        return log_p.sum(axis=tuple(range(1, log_p.ndim)))

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """The same of every level, by how near its vector is."""
        # All vectors have one length, so that products tell how near they are.
        return jax.nn.log_softmax(self._products(params, y_0) * jnp.exp(-gamma_0))

    def decode(self, params: Params, y_0: Array) -> Array:
        """The nearest vectors."""
        return self._products(params, y_0).argmax(-1).astype(jnp.uint8)

    def _products(self, params: Params, y: Array) -> Array:
        """`[B, ..., C, V]`."""
        return y.reshape(*y.shape[:-1], -1, self.dims) @ self.vectors(params).T


def make(dims: Count = 16, rate: Positive = 3.0, levels: Levels = 256) -> Embedding:
    """Learned vectors of levels.

    Args:
        dims: length of a vector.
        rate: what the learning rate is multiplied by for them.
        levels: levels of the data, the letters of an alphabet say.
    """
    return Embedding(dims, levels, rate)
