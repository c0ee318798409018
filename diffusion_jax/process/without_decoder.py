"""An autoencoder without its decoder's likelihood, for when another model provides `P(x | y_0)`."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.networks.autoencoders.base import Autoencoder
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Unread:
    """`inner` with `log_prob` = 0, so that a bound covers the latents only."""

    inner: Autoencoder
    noisy: bool
    discrete: bool
    sequential: bool
    gamma_min: float

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As in `inner`."""
        return self.inner.latent_shape(shape)

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """As in `inner`."""
        return self.inner.init(key, shape)

    def encode(
        self, params: Params, x: Array, keys: Array | None = None
    ) -> tuple[Array, Array | None]:
        """As in `inner`."""
        return self.inner.encode(params, x, keys)

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, keys: Array | None = None
    ) -> Array:
        """Zero, `[B]`."""
        return jnp.zeros(len(x), y_0.dtype)

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """As in `inner`."""
        return self.inner.log_probs(params, x, y_0, gamma_0)

    def decode(self, params: Params, y_0: Array) -> Array:
        """The most probable image under the autoencoder's own decoder."""
        return self.inner.decode(params, y_0)


def unread(inner: Autoencoder) -> Unread:
    """Wraps an autoencoder in `Unread`."""
    return Unread(inner, inner.noisy, inner.discrete, inner.sequential, inner.gamma_min)
