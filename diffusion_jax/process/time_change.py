"""A schedule with its time reparameterised: the same curve, traversed at another speed.

In continuous time the bound does not depend on the speed; only the variance of its estimate does.
To draw gamma from a density, use that density's quantile function as the clock.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.process.schedules.base import (
    Schedule,
    bisect,
    endpoints,
    has_per_pixel_gamma,
    inverse,
    is_straight,
    latent_posterior,
    latent_size,
)
from diffusion_jax.types import Array, Params

CLOCK = "clock"  # key of the clock among a reclocked schedule's parameters


@dataclass(frozen=True)
class Reclocked:
    """`inner.gamma(clock(t))` with a piecewise linear clock.

    The clock is part of the parameters: `CLOCK` holds its values at `nodes` equally spaced t from 0
    to 1. One compiled program therefore serves all clocks.
    """

    inner: Schedule
    nodes: int = 1025

    @property
    def latent(self) -> int:
        """As the inner schedule declares."""
        return latent_size(self.inner)

    @property
    def per_pixel_gamma(self) -> bool:
        """As the inner schedule declares."""
        return has_per_pixel_gamma(self.inner)

    def init(self, key: Array) -> Params:
        """The inner schedule's parameters, and a clock equal to t."""
        return {**self.inner.init(key), CLOCK: jnp.linspace(0.0, 1.0, self.nodes)}

    def posterior(self, params: Params, x: Array, keys: Array) -> tuple[Array, Array]:
        """The inner schedule's latent."""
        return latent_posterior(self.inner)(params, x, keys)

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`."""
        at = jnp.linspace(0.0, 1.0, self.nodes)
        return self.inner.gamma(params, jnp.interp(jnp.asarray(t), at, params[CLOCK]))


def reclock(
    schedule: Schedule, params: Params, gamma: np.ndarray, density: np.ndarray
) -> tuple[Reclocked, Params]:
    """The schedule and its parameters, with a clock such that uniform t draws from `density`.

    Args:
        gamma: increasing values, from one end of the schedule to the other.
        density: positive density at `gamma`, linear in between; need not be normalised.
    """
    clocked = Reclocked(schedule)
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(gamma)
    cdf = np.concatenate([[0.0], np.cumsum(steps)])
    quantiles = np.interp(np.linspace(0.0, 1.0, clocked.nodes), cdf / cdf[-1], gamma)
    find = jax.jit(lambda p, g: inverse(schedule, p, g))
    clock = np.array(jax.device_get(find(params, jnp.asarray(quantiles))))
    clock[0], clock[-1] = 0.0, 1.0  # bisection does not reach the ends exactly
    return clocked, {**params, CLOCK: jnp.asarray(clock)}


def defensive(
    schedule: Schedule, params: Params, u: Array, nodes: int = 513
) -> tuple[Array, Array]:
    """Times from an even mixture of uniform in t and uniform in gamma, given uniform `u` in [0, 1].

    Such a defensive mixture (Hesterberg 1995) has at most twice the variance of the better of the
    two: a bad shape of the schedule does no harm, and one trained for low variance keeps most of
    its gain.

    Returns:
        The times and their weights `dt / du`, at most 2. The clock is linear between `nodes` times
        and the weights are its exact slopes, so there is no bias; `(u, 1)` for straight schedules.
    """
    if is_straight(schedule):
        return u, jnp.ones_like(u)
    first, last = endpoints(schedule, params)

    def cdf(t: Array) -> Array:
        return 0.5 * (t + (schedule.gamma(params, t) - first) / (last - first))

    clock = bisect(cdf, jnp.linspace(0.0, 1.0, nodes)[1:-1]).astype(u.dtype)
    clock = jnp.concatenate([jnp.zeros(1, u.dtype), clock, jnp.ones(1, u.dtype)])
    cell = jnp.clip((u * (nodes - 1)).astype(jnp.int32), 0, nodes - 2)
    rise = clock[cell + 1] - clock[cell]
    return clock[cell] + (u * (nodes - 1) - cell) * rise, (nodes - 1) * rise
