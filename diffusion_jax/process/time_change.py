"""A schedule on another clock: the same curve, or curves, run through at other speeds.

In continuous time the bound does not depend on the speed, only the variance of its estimate does:
drawing gamma from a density is evaluating with the clock that is the density's quantile.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.process.schedules.base import Schedule, inverse, latent_size
from diffusion_jax.types import Array, Params

CLOCK = "clock"  # key of the clock among a reclocked schedule's parameters


@dataclass(frozen=True)
class Reclocked:
    """`inner.gamma(clock(t))` with a piecewise linear clock.

    The parameters are those of `inner` and, as `CLOCK`, its times at equal steps of t from 0 to 1:
    one compiled program serves all clocks.

    Attributes:
        inner: the schedule.
        nodes: pieces of the clock, plus one.
    """

    inner: Schedule
    nodes: int = 1025

    @property
    def latent(self) -> int:
        """Length of the inner schedule's latent, 0 without one."""
        return latent_size(self.inner)

    def init(self, key: Array) -> Params:
        """The inner schedule's parameters and a clock that is right."""
        return {**self.inner.init(key), CLOCK: jnp.linspace(0.0, 1.0, self.nodes)}

    def posterior(self, params: Params, x: Array, keys: Array) -> tuple[Array, Array]:
        """The inner schedule's latent."""
        return self.inner.posterior(params, x, keys)

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`."""
        at = jnp.linspace(0.0, 1.0, self.nodes)
        return self.inner.gamma(params, jnp.interp(jnp.asarray(t), at, params[CLOCK]))


def reclock(
    schedule: Schedule, params: Params, gamma: np.ndarray, density: np.ndarray
) -> tuple[Reclocked, Params]:
    """The clock that draws gamma with a given density.

    Args:
        params: its parameters.
        gamma: increasing, from one end of the schedule to the other.
        density: positive values there, linear in between; need not be normalised.

    Returns:
        The schedule on that clock, and its parameters.
    """
    clocked = Reclocked(schedule)
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(gamma)
    cdf = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.interp(np.linspace(0.0, 1.0, clocked.nodes), cdf / cdf[-1], gamma)
    find = jax.jit(lambda p, g: inverse(schedule, p, g))
    clock = np.array(jax.device_get(find(params, jnp.asarray(wanted))))
    clock[0], clock[-1] = 0.0, 1.0  # bisection stops short of the ends
    return clocked, {**params, CLOCK: jnp.asarray(clock)}
