"""The log-density of the probability-flow ODE, integrated in gamma inside one `lax.scan`.

    dz / dgamma = f(z, gamma) = sigma / 2 (eps_hat(z, gamma) - sigma z)
    log p_0(z_0) = log N(z_1; 0, I) + Int_{gamma_0}^{gamma_1} div f dgamma

(Song et al. 2021, equations 13 and 39, with time changed to gamma). The flow starts from N(0, I),
as every sampler here does, so this is the density of the model's samples.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.types import Array, Pred, sigma

Drift = Callable[[Array], Array]
# The drift and its divergence `[B]` at one point.
Divergence = Callable[[Drift, Array], tuple[Array, Array]]


class RungeKutta(NamedTuple):
    """An explicit Runge-Kutta method in which each stage uses only the previous one.

    Attributes:
        order: order of the error.
        nodes: position of each stage, as a fraction of the step; also the weight of the previous
            stage.
        weights: weights of the stages in the step.
    """

    order: int
    nodes: tuple[float, ...]
    weights: tuple[float, ...]


METHODS = {
    "heun": RungeKutta(2, (0.0, 1.0), (0.5, 0.5)),
    "rk4": RungeKutta(4, (0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}

# Elements in one batch of tangents, which limits the memory of the exact trace. On CPU small
# batches stay in the cache (a fifth faster than all 64 tangents of 64 small images together).
_ELEMENTS = {"cpu": 2**16}
_ELEMENTS_ELSEWHERE = 2**22


def exact(drift: Drift, z: Array) -> tuple[Array, Array]:
    """The drift and its exact divergence: one Jacobian-vector product per dimension.

    Args:
        drift: a function of `z` that treats examples independently.
        z: `[B, ...]`.

    Returns:
        `drift(z)` and the trace of its Jacobian, `[B]`.
    """
    value, push = jax.linearize(drift, z)
    dims = math.prod(z.shape[1:])

    def diagonal(i: Array) -> Array:
        tangent = jnp.zeros(dims, z.dtype).at[i].set(1.0).reshape(z.shape[1:])
        return push(jnp.broadcast_to(tangent, z.shape)).reshape(z.shape[0], dims)[:, i]

    elements = _ELEMENTS.get(jax.default_backend(), _ELEMENTS_ELSEWHERE)
    every, at_once = jnp.arange(dims), max(1, elements // z.size)
    if at_once >= dims:
        return value, jax.vmap(diagonal)(every).sum(0)
    return value, jax.lax.map(diagonal, every, batch_size=at_once).sum(0)


def hutchinson(probes: Array) -> Divergence:
    """An unbiased estimate of the divergence: the mean of `v . J v` (Hutchinson 1990).

    Args:
        probes: independent random signs, `[P, B, ...]`. They stay the same along the whole path, so
            the integrand is smooth and the solver keeps its order.

    Returns:
        A function like `exact`.
    """

    def estimate(drift: Drift, z: Array) -> tuple[Array, Array]:
        value, push = jax.linearize(drift, z)
        axes = tuple(range(1, z.ndim))
        return value, jax.lax.map(lambda v: (v * push(v)).sum(axes), probes).mean(0)

    return estimate


def log_density(
    denoise: Callable[[Array, Array], Pred],
    z: Array,
    gamma_0: Array | float,
    gamma_1: Array | float,
    steps: int,
    method: RungeKutta,
    divergence: Divergence = exact,
) -> Array:
    """`log p_0(z)` of the flow that starts from N(0, I) at `gamma_1`.

    Args:
        denoise: `(z, gamma) -> Pred`, with its condition built in; may be traced.
        z: latents at `gamma_0`, `[B, ...]`, float32 or float64.
        gamma_0: gamma at the data end.
        gamma_1: gamma at the noise end.
        steps: number of equal steps in gamma.
        method: integration method.
        divergence: computes the drift and its divergence.

    Returns:
        Log-densities, `[B]`, nats.
    """
    stages = len(method.nodes)
    node, weight = (np.tile(np.asarray(a), steps) for a in (method.nodes, method.weights))
    fraction = (np.arange(steps).repeat(stages) + node) / steps
    size = (gamma_1 - gamma_0) / steps
    rows = (
        jnp.asarray(gamma_0 + (gamma_1 - gamma_0) * fraction, z.dtype),
        jnp.asarray(size * node, z.dtype),
        jnp.asarray(size * weight, z.dtype),
        jnp.asarray(np.tile(np.arange(stages) == 0, steps)),
    )

    def stage(carry: tuple, row: tuple) -> tuple[tuple, None]:
        start, end, before, volume = carry
        gamma, reach, share, first = row
        start = jnp.where(first, end, start)

        def drift(z: Array) -> Array:
            s = sigma(gamma)
            return 0.5 * s * (denoise(z, gamma).eps - s * z)

        slope, div = divergence(drift, start + reach * before)
        return (start, end + share * slope, slope, volume + share * div), None

    carry = (z, z, jnp.zeros_like(z), jnp.zeros(z.shape[0], z.dtype))
    (_, end, _, volume), _ = jax.lax.scan(stage, carry, rows)
    square = jnp.square(end).sum(axis=tuple(range(1, z.ndim)))
    return volume - 0.5 * (square + math.prod(z.shape[1:]) * math.log(2.0 * math.pi))
