"""An autoencoder whose images another model reads: `P(x | y_0)` is that one's to count."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.networks.autoencoders.base import Autoencoder
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Unread:
    """`inner`, but for `log_prob`, which is 0: a bound then is that of the latents alone."""

    inner: Autoencoder
    noisy: bool
    discrete: bool
    sequential: bool
    gamma_min: float

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As the autoencoder's."""
        return self.inner.latent_shape(shape)

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """As the autoencoder's."""
        return self.inner.init(key, shape)

    def encode(
        self, params: Params, x: Array, keys: Array | None = None
    ) -> tuple[Array, Array | None]:
        """As the autoencoder's."""
        return self.inner.encode(params, x, keys)

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, keys: Array | None = None
    ) -> Array:
        """Nothing."""
        return jnp.zeros(len(x), y_0.dtype)

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """As the autoencoder's."""
        return self.inner.log_probs(params, x, y_0, gamma_0)

    def decode(self, params: Params, y_0: Array) -> Array:
        """The most probable image by the autoencoder itself."""
        return self.inner.decode(params, y_0)


def unread(inner: Autoencoder) -> Unread:
    """The autoencoder with nothing to read."""
    return Unread(inner, inner.noisy, inner.discrete, inner.sequential, inner.gamma_min)
