"""A Gaussian decoder for continuous data: `p(x | z_0) = N(x; z_0 / alpha_0, e^{gamma_0})`.

With it the bound has a closed form on Gaussian data, which the tests compare it with.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Float

from diffusion_jax.types import Array


@dataclass(frozen=True)
class Gaussian:
    """Data are real numbers; model space is data space."""

    def encode(self, image: Array) -> Array:
        """The data, in floating point."""
        return jnp.asarray(image, jnp.result_type(image, jnp.float32))

    def decode(self, y: Array) -> Array:
        """The mean of the decoder."""
        return y

    def log_prob(
        self, x: Float[Array, " b *d"], y: Float[Array, " b *d"], gamma_0: Float[Array, ""]
    ) -> Float[Array, " b"]:
        """Log-density in nats, `[B]`."""
        log_p = -0.5 * (math.log(2.0 * math.pi) + gamma_0 + jnp.exp(-gamma_0) * jnp.square(x - y))
        return log_p.sum(axis=tuple(range(1, log_p.ndim)))


def make() -> Gaussian:
    """The Gaussian decoder."""
    return Gaussian()
