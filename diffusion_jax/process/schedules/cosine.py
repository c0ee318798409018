"""The cosine schedule (Nichol & Dhariwal 2021), cut off at finite ends.

`alpha^2 = cos^2(u)` gives `gamma = 2 log tan u`; u runs linearly between the angles at which gamma
equals `gamma_min` and `gamma_max`. (The paper's offset s = 0.008 is another way to cut the data
end.)
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Finite
from diffusion_jax.process.schedules.base import check_ends, pinned
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Cosine:
    """Fixed cosine schedule on [gamma_min, gamma_max]."""

    gamma_min: float
    gamma_max: float

    def init(self, key: Array) -> Params:
        """No parameters."""
        return {}

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`."""
        first, last = (math.atan(math.exp(0.5 * g)) for g in (self.gamma_min, self.gamma_max))

        def curve(u: Array) -> Array:
            return 2.0 * jnp.log(jnp.tan(first * (1.0 - u) + last * u))

        return pinned(curve, jnp.asarray(t), self.gamma_min, self.gamma_max)


def make(gamma_min: Finite = -13.3, gamma_max: Finite = 5.0) -> Cosine:
    """The cosine schedule between `gamma_min` and `gamma_max`."""
    check_ends(gamma_min, gamma_max)
    return Cosine(gamma_min, gamma_max)
