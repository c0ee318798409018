"""No network: with `prediction='v'` the model is exactly N(0, I), the prior of a VAE."""

import flax.linen as nn
import jax.numpy as jnp

from diffusion_jax.types import Array, Cond


class StandardNormal(nn.Module):
    """v = 0: `x_hat = alpha z` and `eps_hat = sigma z`."""

    @nn.compact
    def __call__(self, z: Array, gamma: Array, cond: Cond, keys: Array | None = None) -> Array:
        """Zero, shape and type of `z`."""
        return jnp.zeros_like(z)


def make() -> StandardNormal:
    """The standard normal, without parameters; use `prediction='v'`."""
    return StandardNormal()
