"""The contract of a bound, and the two terms every bound here shares.

An objective is `(model, params, x, cond, noise) -> Terms`: a deterministic function of `Noise`,
each term per example, in nats. Only the caller takes means.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diffusion_jax.model import Model
from diffusion_jax.schedules.base import endpoints
from diffusion_jax.types import Array, Cond, Noise, Params, Terms


@runtime_checkable
class Objective(Protocol):
    """A variational bound on the negative log-likelihood."""

    def __call__(self, model: Model, params: Params, x: Array, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x` (model space, `[B, ...]`), each `[B]`, nats."""


def total(values: Float[Array, " b *d"]) -> Float[Array, " b"]:
    """Sum over everything but the batch axis."""
    return values.sum(axis=tuple(range(1, values.ndim)))


def prior(model: Model, params: Params, x: Float[Array, " b *d"]) -> Float[Array, " b"]:
    """`KL(q(z_1 | x) || N(0, I))`, `[B]`, nats (Kingma et al. 2021, equation 5)."""
    _, gamma_1 = endpoints(model.schedule, params["schedule"])
    # Equal to (alpha^2 x^2 + sigma^2 - log sigma^2 - 1) / 2, without its cancellation in float32.
    alpha2 = jax.nn.sigmoid(-gamma_1)
    return total(0.5 * (alpha2 * jnp.square(x) - alpha2 + jax.nn.softplus(-gamma_1)))


def reconstruction(
    model: Model, params: Params, x: Float[Array, " b *d"], eps_0: Float[Array, " b *d"]
) -> Float[Array, " b"]:
    """`-log p(x | z_0)` at one draw of `z_0`, `[B]`, nats."""
    gamma_0, _ = endpoints(model.schedule, params["schedule"])
    return -model.decoder.log_prob(x, x + jnp.exp(0.5 * gamma_0) * eps_0, gamma_0)
