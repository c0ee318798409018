"""VDM's learned end points: `gamma(t) = b + |w| t` (Kingma et al. 2021, `learnable_scalar`)."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Finite
from diffusion_jax.process.schedules.base import check_ends
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class LearnedLinear:
    """A straight line with two trained end points."""

    gamma_min: float
    gamma_max: float
    straight: bool = True

    def init(self, key: Array) -> Params:
        """`{"b", "w"}`: offset and slope, scalars that start at the given end points."""
        return {
            "b": jnp.asarray(self.gamma_min, jnp.float32),
            "w": jnp.asarray(self.gamma_max - self.gamma_min, jnp.float32),
        }

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`."""
        return params["b"] + jnp.abs(params["w"]) * t


def make(gamma_min: Finite = -13.3, gamma_max: Finite = 5.0) -> LearnedLinear:
    """Learned end points, initialised to `gamma_min` and `gamma_max`."""
    check_ends(gamma_min, gamma_max)
    return LearnedLinear(gamma_min, gamma_max)
