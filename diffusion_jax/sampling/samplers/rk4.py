"""Classical Runge-Kutta of order 4 on the probability-flow ODE: the reference for other methods.

It integrates over gamma, in which the slope is bounded at both ends:
`dz / d gamma = alpha sigma v / 2` with `v = alpha eps - sigma x` (Kingma et al. 2021, section 3,
with Song et al. 2021, equation 13).
"""

from dataclasses import dataclass

from diffusion_jax.sampling.samplers.base import Denoise, Rows, alpha_of, sigma_of
from diffusion_jax.types import Array


def _slope(gammas: Array) -> Rows:
    """`dz / d gamma = x_weight x + eps_weight eps` at `gammas`."""
    a, s = alpha_of(gammas), sigma_of(gammas)
    return {"gamma": gammas, "x": -0.5 * a * s**2, "eps": 0.5 * a**2 * s}


@dataclass(frozen=True)
class RK4:
    """Order 4, four calls per step, no memory."""

    nfe_per_step: int = 4
    noise_share: float = 0.0

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        return {
            "gamma": gammas[:-1],
            "size": gammas[1:] - gammas[:-1],
            "start": _slope(gammas[:-1]),
            "middle": _slope(0.5 * (gammas[:-1] + gammas[1:])),
            "end": _slope(gammas[1:]),
        }

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """One step."""

        def slope(z: Array, at: Rows) -> Array:
            pred = denoise(z, at["gamma"])
            return at["x"] * pred.x + at["eps"] * pred.eps

        d = row["size"]
        k_1 = slope(z, row["start"])
        k_2 = slope(z + 0.5 * d * k_1, row["middle"])
        k_3 = slope(z + 0.5 * d * k_2, row["middle"])
        k_4 = slope(z + d * k_3, row["end"])
        return z + d / 6.0 * (k_1 + 2.0 * (k_2 + k_3) + k_4), memory


def make() -> RK4:
    """Runge-Kutta of order 4."""
    return RK4()
