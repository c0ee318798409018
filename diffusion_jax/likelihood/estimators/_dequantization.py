"""From discrete data to a density: `log P(x) >= E_q[log p(z_0) + log P(x | z_0) - log q(z_0 | x)]`.

Each function draws `z_0 ~ q(z_0 | x)` and returns it with `log P(x | z_0) - log q(z_0 | x)`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.process.decoders.base import Decoder
from diffusion_jax.types import Array, Params, alpha, sigma

# (model, weights, x [B, ...], gamma_0, one key per image) -> (z_0 [B, ...], nats [B])
Dequantize = Callable[[Model, Params, Array, Array, Array], tuple[Array, Array]]


def levels(decoder: Decoder) -> int:
    """The number of levels V; the bins have width 2 / V.

    Raises:
        ConfigError: the decoder's data are not discrete.
    """
    count = getattr(decoder, "levels", 0)
    if not count:
        raise ConfigError(
            f"decoder {type(decoder).__name__} has no levels to dequantise; "
            "use ode(dequantization='decoder')"
        )
    return count


def _dims(x: Array) -> int:
    return math.prod(x.shape[1:])


def _sum(values: Array) -> Array:
    return values.sum(axis=tuple(range(1, values.ndim)))


def uniform(
    model: Model, params: Params, x: Array, gamma_0: Array, keys: Array
) -> tuple[Array, Array]:
    """`z_0 = alpha_0 (x + u)`, u uniform in the bin: `P(x | z_0) = 1` there."""
    half = 1.0 / levels(model.decoder)
    draw = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], x.dtype, -half, half))
    width = jnp.log(2.0 * half * alpha(gamma_0))
    return alpha(gamma_0) * (x + draw(keys)), jnp.broadcast_to(_dims(x) * width, x.shape[:1])


def truncated_normal(
    model: Model, params: Params, x: Array, gamma_0: Array, keys: Array
) -> tuple[Array, Array]:
    """`z_0 = alpha_0 x + sigma_0 e`, e normal, truncated to the bin (Zheng et al. 2023)."""
    tau = jnp.asarray(jnp.exp(-0.5 * gamma_0) / levels(model.decoder), x.dtype)
    draw = jax.vmap(lambda key: jax.random.truncated_normal(key, -tau, tau, x.shape[1:], x.dtype))
    e = draw(keys)
    inside = jnp.log(jax.scipy.special.erf(tau / math.sqrt(2.0)))
    constant = 0.5 * math.log(2.0 * math.pi) + jnp.log(sigma(gamma_0)) + inside
    return alpha(gamma_0) * x + sigma(gamma_0) * e, _dims(x) * constant + 0.5 * _sum(e * e)


def decoder(
    model: Model, params: Params, x: Array, gamma_0: Array, keys: Array
) -> tuple[Array, Array]:
    """The model's own `q(z_0 | x)` (for pixels `alpha_0 x + sigma_0 eps`) and `P(x | z_0)`.

    For noisy latents the variance is `tau_0^2 = alpha_0^2 s^2 + sigma_0^2` instead of sigma_0^2.
    """
    coded = model.coded(params, x)
    mean, std = coded.mean, coded.std
    eps = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:], mean.dtype))(keys)
    constant = 0.5 * math.log(2.0 * math.pi) + jnp.log(sigma(gamma_0))
    log_q = -_dims(mean) * constant - 0.5 * _sum(eps * eps)
    if std is None:
        y_0, z_0 = mean + jnp.exp(0.5 * gamma_0) * eps, alpha(gamma_0) * mean + sigma(gamma_0) * eps
    else:
        ratio = jnp.square(std) * jnp.exp(-gamma_0)  # of the latents' variance to the diffusion's
        log_q -= 0.5 * _sum(jnp.log1p(ratio))
        y_0 = mean + jnp.exp(0.5 * gamma_0) * jnp.sqrt(1.0 + ratio) * eps
        z_0 = alpha(gamma_0) * y_0
    return z_0, model.log_prob(params, x, y_0, gamma_0) - log_q


WAYS: dict[str, Dequantize] = {
    "decoder": decoder,
    "truncated_normal": truncated_normal,
    "uniform": uniform,
}
