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
    has_per_pixel_gamma,
    inverse,
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
