"""A schedule on another clock: the same curve, or curves, run through at other speeds.

In continuous time the bound does not depend on the speed, only the variance of its estimate does:
drawing gamma from a density is evaluating with the clock that is the density's quantile.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.schedules.base import Schedule, inverse, latent_size
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Reclocked:
    """`inner.gamma(clock(t))` with a piecewise linear clock.

    Attributes:
        inner: the schedule.
        clock: times of `inner` at equal steps of t, from 0 to 1.
    """

    inner: Schedule
    clock: np.ndarray = field(compare=False)

    @property
    def latent(self) -> int:
        """Length of the inner schedule's latent, 0 without one."""
        return latent_size(self.inner)

    def init(self, key: Array) -> Params:
        """The inner schedule's parameters."""
        return self.inner.init(key)

    def posterior(self, params: Params, x: Array, keys: Array) -> tuple[Array, Array]:
        """The inner schedule's latent."""
        return self.inner.posterior(params, x, keys)

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`."""
        nodes = jnp.linspace(0.0, 1.0, len(self.clock))
        return self.inner.gamma(params, jnp.interp(jnp.asarray(t), nodes, jnp.asarray(self.clock)))


def reclock(
    schedule: Schedule, params: Params, gamma: np.ndarray, density: np.ndarray, nodes: int = 1025
) -> Reclocked:
    """The clock that draws gamma with a given density.

    Args:
        schedule: the schedule.
        params: its parameters.
        gamma: increasing, from one end of the schedule to the other.
        density: positive values there, linear in between; need not be normalised.
        nodes: pieces of the clock, plus one.

    Returns:
        The schedule on that clock.
    """
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(gamma)
    cdf = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.interp(np.linspace(0.0, 1.0, nodes), cdf / cdf[-1], gamma)
    clock = np.array(jax.device_get(inverse(schedule, params, jnp.asarray(wanted))))
    clock[0], clock[-1] = 0.0, 1.0  # bisection stops short of the ends
    return Reclocked(schedule, clock)
