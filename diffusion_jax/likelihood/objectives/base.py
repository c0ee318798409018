"""The contract of a bound, and the two terms that all bounds here share.

An objective is `(model, params, x, cond, noise) -> Terms`: a deterministic function of `Noise` that
gives each term per example, in nats. Only the caller takes means.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import endpoints
from diffusion_jax.rng import normal, stream
from diffusion_jax.types import Array, Coded, Cond, Data, Noise, Params, Terms, expand

_LEAST = 1e-30  # the gradients of smaller weights have underflowed


@runtime_checkable
class Objective(Protocol):
    """A variational bound on the negative log-likelihood.

    If its value does not depend on the schedule between its ends, it declares `shape_invariant =
    True` and has the method of `ShapeInvariant`: the schedule's shape may then be trained to reduce
    the variance of the loss.

    An objective that weights the losses of a bound declares `bound` and `weight`; one that adds a
    term to a bound declares `bound`, and a `note` for the user.
    """

    def __call__(self, model: Model, params: Params, x: Data, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x` (model space, `[B, ...]`), each `[B]`, nats."""
        ...


class ShapeInvariant(Objective, Protocol):
    """An objective that declares `shape_invariant = True`."""

    def at(
        self,
        model: Model,
        params: Params,
        x: Data,
        cond: Cond,
        noise: Noise,
        gamma: Array,
        slope: Array,
    ) -> Terms:
        """The terms at a given `gamma(t)` and `gamma'(t)` (`[B]`, or one value per pixel).

        `noise.t` is ignored, and the divergence of a schedule's latent is not included.
        """
        ...


def is_shape_invariant(objective: Objective) -> bool:
    """Whether the objective declares that its value does not depend on the schedule's shape."""
    return bool(getattr(objective, "shape_invariant", False))


def bound_of(objective: Objective) -> Objective:
    """The bound to evaluate: the `bound` that an objective declares, or the objective itself."""
    return getattr(objective, "bound", objective)


def weight_of(objective: Objective) -> Callable[[Array, Array], Array] | None:
    """The `weight(gamma, slope)` that an objective declares, or None for equal weights."""
    return getattr(objective, "weight", None)


def without_weight(gradient: Array, weight: Array) -> Array:
    """A gradient divided by the weight that multiplied it; finite where both have underflowed."""
    return gradient / jnp.maximum(weight, _LEAST)


def total(values: Float[Array, " b *d"]) -> Float[Array, " b"]:
    """Sum over everything but the batch axis."""
    return values.sum(axis=tuple(range(1, values.ndim)))


def weighted(weight: Array, values: Array) -> Array:
    """`sum weight values` per example; `weight` is a scalar, `[B]`, or one per value."""
    return total(expand(weight, values) * values)


def prior(
    model: Model,
    params: Params,
    x: Float[Array, " b *d"],
    cond: Cond | None = None,
    dropout: Array | None = None,
    std: Array | None = None,
    at_data: bool = False,
) -> Float[Array, " b"]:
    """`KL(q(z_1 | x) || N(0, I))`, `[B]`, nats (Kingma et al. 2021, equation 5).

    Args:
        x: data or latent means, `[B, ...]`, before the diffusion encoder.
        cond: condition of the diffusion encoder, which gives `x_1`.
        dropout: dropout keys of the diffusion encoder.
        std: standard deviation of noisy latents, or None.
        at_data: compute the divergence of `z_0` instead of `z_1`.
    """
    ends = endpoints(model.schedule, params["schedule"])
    gamma = ends[0] if at_data else ends[1]
    x_1 = x + model.shift(params, x, gamma, cond or {}, dropout)
    # Equal to (alpha^2 x^2 + tau^2 - log tau^2 - 1) / 2, without its cancellation in float32.
    alpha2 = jax.nn.sigmoid(-gamma)
    if std is None:
        return total(0.5 * (alpha2 * jnp.square(x_1) - alpha2 + jax.nn.softplus(-gamma)))
    rest = alpha2 * (jnp.square(std) - 1.0)
    return total(0.5 * (alpha2 * jnp.square(x_1) + rest - jnp.log1p(rest)))


def at_z_0(
    model: Model,
    params: Params,
    x: Coded,
    eps_0: Float[Array, " b *d"],
    cond: Cond | None = None,
    dropout: Array | None = None,
) -> Array:
    """`y_0 = z_0 / alpha_0` at one draw of `z_0 ~ N(alpha_0 x_0, tau_0^2)`."""
    gamma_0, _ = endpoints(model.schedule, params["schedule"])
    x_0 = x.mean + model.shift(params, x.mean, gamma_0, cond or {}, dropout)
    if x.std is None:
        return x_0 + jnp.exp(0.5 * gamma_0) * eps_0
    return x_0 + jnp.sqrt(jnp.square(x.std) + jnp.exp(gamma_0)) * eps_0


def reconstruction(
    model: Model,
    params: Params,
    x: Data,
    eps_0: Float[Array, " b *d"],
    cond: Cond | None = None,
    dropout: Array | None = None,
) -> Float[Array, " b"]:
    """`-log P(x | z_0)` at one draw of `z_0`, `[B]`, nats.

    `x` is in model space; `cond` and `dropout` are for the diffusion encoder, which gives `x_0`.
    """
    gamma_0, _ = endpoints(model.schedule, params["schedule"])
    x = model.coded(params, x, dropout)
    y_0 = at_z_0(model, params, x, eps_0, cond, dropout)
    return -model.log_prob(params, x.data, y_0, gamma_0, dropout)


def drawn(model: Model, params: Params, x: Coded, keys: Array | None) -> tuple[Coded, Array]:
    """Samples one latent per image, and returns the correction to the bound given that latent.

    Given a latent y, the bound is that of ordinary data, but the generator does not know y:
    `KL(q(z_{0:1} | x) || p) = E_y KL(q(z_{0:1} | y) || p) - I(y; z_0 | x)`. For a Markov forward
    chain that starts from y the last term is `1/2 sum log(1 + s^2 e^{-gamma_0})`.

    Args:
        keys: one key per example (`Noise.latent`).

    Returns:
        The data with sampled latents (`std` None), and the correction `-I`, `[B]`, nats.
    """
    if x.std is None:
        return x, jnp.zeros(x.mean.shape[0], x.mean.dtype)
    if keys is None:
        raise ValueError("the latent is sampled, so Noise.latent must hold PRNG keys")
    gamma_0, _ = endpoints(model.schedule, params["schedule"])
    y = x.mean + x.std * normal(stream(keys, "latent"), x.mean.shape, x.mean.dtype)
    correction = -0.5 * total(jnp.log1p(jnp.square(x.std) * jnp.exp(-gamma_0)))
    return Coded(x.data, y, None), correction
