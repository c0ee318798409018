"""The contract of a bound, and the two terms every bound here shares.

An objective is `(model, params, x, cond, noise) -> Terms`: a deterministic function of `Noise`,
each term per example, in nats. Only the caller takes means.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import endpoints
from diffusion_jax.types import Array, Cond, Noise, Params, Terms, expand


@runtime_checkable
class Objective(Protocol):
    """A variational bound on the negative log-likelihood.

    One whose value does not depend on the schedule between its ends declares `shape_invariant =
    True` and has the method of `ShapeInvariant`: the schedule's shape may then be trained on the
    variance of the loss.

    One that weights the losses of a bound declares `bound` and `weight`.
    """

    def __call__(self, model: Model, params: Params, x: Array, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x` (model space, `[B, ...]`), each `[B]`, nats."""
        ...


class ShapeInvariant(Objective, Protocol):
    """An objective that declares `shape_invariant = True`."""

    def at(
        self,
        model: Model,
        params: Params,
        x: Array,
        cond: Cond,
        noise: Noise,
        gamma: Array,
        slope: Array,
    ) -> Terms:
        """The terms at a given `gamma(t)` and `gamma'(t)` (`[B]`, or one value per pixel).

        `noise.t` is not used, and the auxiliary term is left out.
        """
        ...


def is_shape_invariant(objective: Objective) -> bool:
    """Whether the objective declares that the schedule's shape leaves its value alone."""
    return bool(getattr(objective, "shape_invariant", False))


def bound_of(objective: Objective) -> Objective:
    """What is evaluated: the `bound` that an objective declares it weights, or else itself."""
    return getattr(objective, "bound", objective)


def weight_of(objective: Objective) -> Callable[[Array, Array], Array] | None:
    """The `weight(gamma, slope)` that an objective declares, or None: all losses count alike."""
    return getattr(objective, "weight", None)


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
) -> Float[Array, " b"]:
    """`KL(q(z_1 | x) || N(0, I))`, `[B]`, nats (Kingma et al. 2021, equation 5).

    `x` is in model space, not encoded; `cond` and `dropout` are the encoder's, which gives `x_1`.
    """
    _, gamma_1 = endpoints(model.schedule, params["schedule"])
    x_1 = x + model.shift(params, x, gamma_1, cond or {}, dropout)
    # Equal to (alpha^2 x^2 + sigma^2 - log sigma^2 - 1) / 2, without its cancellation in float32.
    alpha2 = jax.nn.sigmoid(-gamma_1)
    return total(0.5 * (alpha2 * jnp.square(x_1) - alpha2 + jax.nn.softplus(-gamma_1)))


def reconstruction(
    model: Model,
    params: Params,
    x: Float[Array, " b *d"],
    eps_0: Float[Array, " b *d"],
    cond: Cond | None = None,
    dropout: Array | None = None,
) -> Float[Array, " b"]:
    """`-log p(x | z_0)` at one draw of `z_0 = alpha_0 x_0 + sigma_0 eps_0`, `[B]`, nats.

    `x` is in model space, not encoded; `cond` and `dropout` are the encoder's, which gives `x_0`.
    """
    gamma_0, _ = endpoints(model.schedule, params["schedule"])
    x_0 = x + model.shift(params, x, gamma_0, cond or {}, dropout)
    return -model.decoder.log_prob(x, x_0 + jnp.exp(0.5 * gamma_0) * eps_0, gamma_0)
