"""Times uniform in t: the schedule's shape decides where the bound is sampled."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.process.schedules.base import Schedule
from diffusion_jax.training.time_sampling.base import Proposal
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Uniform:
    """No importance sampling."""

    uniform: bool = True

    def init(self) -> Params:
        """No state."""
        return {}

    def times(
        self, state: Params, schedule: Schedule, params: Params, u: Array
    ) -> tuple[Array, Array]:
        """`(u, 1)`."""
        return u, jnp.ones_like(u)

    def observe(self, fraction: Array, density: Array) -> Params:
        """No statistics."""
        return {}

    def update(self, state: Params, seen: Params) -> Params:
        """No state."""
        return state


def make() -> Proposal:
    """Uniform times."""
    return Uniform()
