"""A schedule with its time reparameterised: the same curve, traversed at another speed.

In continuous time the bound does not depend on the speed; only the variance of its estimate does.
Drawing gamma from a density means using that density's quantile function as the clock.
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

    The parameters are those of `inner` and, under `CLOCK`, its times at `nodes` equally spaced t
    from 0 to 1, so one compiled program serves all clocks.
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
        """The inner schedule's parameters, and a clock that runs at its speed."""
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
    """The schedule on a clock such that a uniform t draws gamma from `density`; its parameters too.

    Args:
        gamma: increasing, from one end of the schedule to the other.
        density: positive values there, linear in between; need not be normalised.
    """
    clocked = Reclocked(schedule)
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(gamma)
    cdf = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.interp(np.linspace(0.0, 1.0, clocked.nodes), cdf / cdf[-1], gamma)
    find = jax.jit(lambda p, g: inverse(schedule, p, g))
    clock = np.array(jax.device_get(find(params, jnp.asarray(wanted))))
    clock[0], clock[-1] = 0.0, 1.0  # bisection stops short of the ends
    return clocked, {**params, CLOCK: jnp.asarray(clock)}


def defensive(
    schedule: Schedule, params: Params, u: Array, nodes: int = 513
) -> tuple[Array, Array]:
    """Times drawn half uniformly in t, half uniformly in gamma, by uniform `u` in [0, 1].

    The variance of a mean over them is at most twice the less of the two: no shape of a schedule
    spoils it, and one that was trained for it keeps its gain. (A defensive mixture; Hesterberg
    1995.)

    Returns:
        The times and their weights `dt / du`, at most 2. They are exactly the slopes of a clock
        that is linear between `nodes` times, which gives no bias; `(u, 1)` for straight schedules.
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
