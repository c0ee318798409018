"""Trains the schedule's shape to minimise the variance of the loss (Kingma et al. 2021, app. I.2).

In continuous time the bound does not depend on the shape of gamma(t) between its ends; only the
variance of its estimate does. With l the diffusion loss of one example, the shape follows the
gradient of `E l^2` (the variance plus a constant), and all other parameters that of the bound. Both
need only one backward pass through the network, because the shape acts on example i only through
`gamma(t_i)` and `gamma'(t_i)`: the gradient of `l_i^2` there is `2 l_i` times that of `l_i`.
"""

import math

import jax
import jax.numpy as jnp

from diffusion_jax.likelihood.objectives.base import ShapeInvariant, weight_of, without_weight
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import gamma_and_slope
from diffusion_jax.types import Array, Coded, Cond, Data, Noise, Params, Terms

SHAPE = "shape"  # the schedule's parameters that affect gamma only between its ends


def learns_shape(params: Params) -> bool:
    """Whether the schedule in `params` has a shape separate from its ends."""
    return SHAPE in params["schedule"]


def gradient(
    objective: ShapeInvariant,
    model: Model,
    params: Params,
    x: Data,
    cond: Cond,
    noise: Noise,
    dims: int | None = None,
) -> tuple[Params, Terms]:
    """Gradient of `E l^2` for the schedule's shape, and of the mean bound for everything else.

    Args:
        objective: an objective that declares `shape_invariant`, such as `continuous()`.
        model: a model whose schedule has a shape.
        params: its weights.
        x: data in model space, `[B, ...]`.
        noise: the noise; its times must be uniform.
        dims: number of dimensions for bits/dim; None for that of `x`.

    Returns:
        The gradient, for losses in bits/dim, and the terms of the bound.
    """
    values = math.prod((x.data if isinstance(x, Coded) else x).shape[1:])
    n, scale = noise.t.shape[0], 1.0 / ((dims or values) * math.log(2.0))
    curve, to_schedule = jax.vjp(
        lambda p: gamma_and_slope(model.schedule, p, noise.t), params["schedule"]
    )

    def bound(p: Params, curve: tuple[Array, Array]) -> tuple[Array, Terms]:
        terms = objective.at(model, p, x, cond, noise, *curve)
        return terms.total * scale, terms

    _, backward, terms = jax.vjp(bound, params, curve, has_aux=True)
    grads, to_curve = backward(jnp.full(n, 1.0 / n, terms.total.dtype))
    twice = 2.0 * scale * terms.diffusion
    to_bound, to_loss = to_curve, to_curve
    weight = weight_of(objective)
    if weight is not None:
        # Held fixed in the backward pass: the ends follow the bound, the shape the loss.
        w, growth = jax.jvp(lambda g: weight(g, curve[1]), curve[:1], (jnp.ones_like(curve[0]),))
        to_bound = tuple(without_weight(g, w) for g in to_curve)
        more = scale / n * terms.diffusion * without_weight(growth, w)
        to_loss = (to_curve[0] + more, to_curve[1])
    (ordinary,) = to_schedule(to_bound)
    (squared,) = to_schedule(tuple(twice * g for g in to_loss))
    # The shape does not move the ends, so prior and reconstruction do not depend on it.
    schedule = {
        k: squared[k] if k == SHAPE else jax.tree.map(jnp.add, v, ordinary[k])
        for k, v in grads["schedule"].items()
    }
    return {**grads, "schedule": schedule}, terms
