"""A fixed schedule with gamma linear in t: the log-SNR falls at a constant rate."""

from dataclasses import dataclass

from diffusion_jax.allowed import Finite
from diffusion_jax.process.schedules.base import check_ends
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Linear:
    """`gamma(t) = gamma_min (1 - t) + gamma_max t`."""

    gamma_min: float
    gamma_max: float
    straight: bool = True

    def init(self, key: Array) -> Params:
        """No parameters."""
        return {}

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`."""
        return self.gamma_min * (1.0 - t) + self.gamma_max * t


def make(gamma_min: Finite = -13.3, gamma_max: Finite = 5.0) -> Linear:
    """The fixed linear schedule from `gamma_min` to `gamma_max`."""
    check_ends(gamma_min, gamma_max)
    return Linear(gamma_min, gamma_max)
