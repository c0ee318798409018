"""From discrete data to a density: `log P(x) >= E_q[log p(z_0) + log P(x | z_0) - log q(z_0 | x)]`.

Each way draws `z_0 ~ q(z_0 | x)` and returns it with `log P(x | z_0) - log q(z_0 | x)`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.process.decoders.base import Decoder
from diffusion_jax.types import Array, alpha, sigma

# (decoder, x [B, ...], gamma_0, one key per image) -> (z_0 [B, ...], nats [B])
Dequantize = Callable[[Decoder, Array, Array, Array], tuple[Array, Array]]


def levels(decoder: Decoder) -> int:
    """The number of levels V; the bins have width 2 / V.

    Args:
        decoder: the model's decoder.

    Returns:
        V.

    Raises:
        ConfigError: the decoder's data are not discrete.
    """
    found = getattr(decoder, "levels", 0)
    if not found:
        raise ConfigError(
            f"decoder {type(decoder).__name__} has no levels to dequantise; "
            "use ode(dequantization='decoder')"
        )
    return found


def _dims(x: Array) -> int:
    return math.prod(x.shape[1:])


def _sum(values: Array) -> Array:
    return values.sum(axis=tuple(range(1, values.ndim)))


def uniform(decoder: Decoder, x: Array, gamma_0: Array, keys: Array) -> tuple[Array, Array]:
    """`z_0 = alpha_0 (x + u)`, u uniform in the bin: `P(x | z_0) = 1` there."""
    half = 1.0 / levels(decoder)
    draw = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], x.dtype, -half, half))
    width = jnp.log(2.0 * half * alpha(gamma_0))
    return alpha(gamma_0) * (x + draw(keys)), jnp.broadcast_to(_dims(x) * width, x.shape[:1])


def truncated_normal(
    decoder: Decoder, x: Array, gamma_0: Array, keys: Array
) -> tuple[Array, Array]:
    """`z_0 = alpha_0 x + sigma_0 e`, e normal, cut off at the bin's edge (Zheng et al. 2023)."""
    tau = jnp.asarray(jnp.exp(-0.5 * gamma_0) / levels(decoder), x.dtype)
    draw = jax.vmap(lambda key: jax.random.truncated_normal(key, -tau, tau, x.shape[1:], x.dtype))
    e = draw(keys)
    inside = jnp.log(jax.scipy.special.erf(tau / math.sqrt(2.0)))
    constant = 0.5 * math.log(2.0 * math.pi) + jnp.log(sigma(gamma_0)) + inside
    return alpha(gamma_0) * x + sigma(gamma_0) * e, _dims(x) * constant + 0.5 * _sum(e * e)


def decoder(decoder: Decoder, x: Array, gamma_0: Array, keys: Array) -> tuple[Array, Array]:
    """`z_0 = alpha_0 x + sigma_0 eps` and the model's own decoder `P(x | z_0)`."""
    eps = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
    constant = 0.5 * math.log(2.0 * math.pi) + jnp.log(sigma(gamma_0))
    log_q = -_dims(x) * constant - 0.5 * _sum(eps * eps)
    log_p = decoder.log_prob(x, x + jnp.exp(0.5 * gamma_0) * eps, gamma_0)
    return alpha(gamma_0) * x + sigma(gamma_0) * eps, log_p - log_q


WAYS: dict[str, Dequantize] = {
    "decoder": decoder,
    "truncated_normal": truncated_normal,
    "uniform": uniform,
}
