"""DiffEnc's encoder without parameters: `x_t = alpha_t^2 x` (Nielsen et al. 2024, section 4).

Its `-d x_t / d gamma` is exactly `sigma_t^2 x_t`, which is what the corrected mean assumes.
"""

from dataclasses import dataclass

import jax

from diffusion_jax.types import Array, Cond, Params, expand


@dataclass(frozen=True)
class DiffEncNT:
    """Scales the data towards zero as noise grows."""

    mean_coefficient: float = 1.0

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """No parameters."""
        return {}

    def shift(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> Array:
        """`-sigma^2 x`."""
        return -jax.nn.sigmoid(expand(gamma, x)) * x

    def __call__(
        self, params: Params, x: Array, gamma: Array, cond: Cond, keys: Array | None
    ) -> tuple[Array, Array]:
        """`(alpha^2 x, -alpha^2 sigma^2 x)`."""
        g = expand(gamma, x)
        x_t = jax.nn.sigmoid(-g) * x
        return x_t, -jax.nn.sigmoid(g) * x_t


def make() -> DiffEncNT:
    """The encoder `alpha^2 x`."""
    return DiffEncNT()
