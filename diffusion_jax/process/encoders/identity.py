"""No encoder: `x_t = x`, which is VDM."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.types import Array, Cond, Params


@dataclass(frozen=True)
class Identity:
    """`x_t = x` at all times."""

    mean_coefficient: float = 0.0
    time_dependent: bool = False

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """No parameters."""
        return {}

    def shift(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> Array:
        """Zero."""
        return jnp.zeros_like(x)

    def __call__(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> tuple[Array, Array]:
        """`(x, 0)`."""
        return x, jnp.zeros_like(x)


def make() -> Identity:
    """No encoder."""
    return Identity()
