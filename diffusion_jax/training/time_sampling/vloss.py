"""Times whose weighted loss is a plain mean of |v - v_hat|^2 (Zheng et al. 2023, "i-DODE").

The loss per unit of gamma is `alpha^2 |v - v_hat|^2 / 2`, and a network's error in v is about the
same at every gamma. Gamma is therefore drawn with density `alpha^2 / Z`, whose quantile function is
`gamma(u) = -log(e^{-Z u} (1 + e^{-gamma_0}) - 1)`, `Z = log((1+e^{-gamma_0}) / (1+e^{-gamma_1}))`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.process.schedules.base import Schedule, endpoints
from diffusion_jax.training.time_sampling.base import Proposal, from_gamma
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class VLoss:
    """`p(gamma)` proportional to `alpha^2`."""

    def init(self) -> Params:
        """No state."""
        return {}

    def times(
        self, state: Params, schedule: Schedule, params: Params, u: Array
    ) -> tuple[Array, Array]:
        """Times from the closed-form quantile function, and their weights."""
        first, last = (jax.nn.softplus(-g) for g in endpoints(schedule, params))
        gamma = -jnp.log(jnp.expm1(first * (1.0 - u) + last * u))
        return from_gamma(schedule, params, gamma, jax.nn.sigmoid(-gamma) / (first - last))

    def observe(self, fraction: Array, density: Array) -> Params:
        """No statistics."""
        return {}

    def update(self, state: Params, seen: Params) -> Params:
        """No state."""
        return state


def make() -> Proposal:
    """Importance sampling for the v-loss."""
    return VLoss()
