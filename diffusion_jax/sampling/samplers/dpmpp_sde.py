"""Stochastic DPM-Solver++(2S): midpoint method for the reverse SDE with noise level eta.

The exponential integrator of `dpmpp_2m(eta)`, with the prediction computed in the middle of the
step instead of extrapolated. Both sub-steps share one Brownian path (the noise at the end contains
the noise at the middle); with independent noise the method would have weak order 1 only.
"""

from dataclasses import dataclass

from diffusion_jax import rng
from diffusion_jax.allowed import NotNegative
from diffusion_jax.sampling.samplers.base import (
    Denoise,
    Rows,
    alpha_of,
    backend,
    log_snr_steps,
    scales,
    sigma_of,
    std,
)
from diffusion_jax.types import Array


@dataclass(frozen=True)
class DPMppSDE:
    """Weak order 2, two calls per step, no memory."""

    eta: float
    nfe_per_step: int = 2

    @property
    def noise_share(self) -> float:
        """Noise variance relative to ancestral sampling: `eta`."""
        return self.eta

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        xp, eta = backend(gammas), self.eta
        _, _, a_s, s_s = scales(gammas)
        h = log_snr_steps(gammas)
        middle = 0.5 * (gammas[:-1] + gammas[1:])
        half = std(-xp.expm1(-eta * h))  # noise of half a step, in units of sigma
        kept = xp.exp(-0.5 * eta * h)
        return {
            "gamma": gammas[:-1],
            "middle": middle,
            "middle_x": alpha_of(middle),
            "middle_eps": sigma_of(middle) * kept,
            "middle_noise": sigma_of(middle) * half,
            "x": a_s,
            "difference": -a_s * xp.expm1(-(1.0 + eta) * h),
            "eps": s_s * kept**2,
            "noise_1": s_s * kept * half,
            "noise_2": s_s * half,
        }

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """One step."""
        x, eps = denoise(z, row["gamma"])
        k_1, k_2 = rng.split(key)
        n_1 = rng.normal(k_1, z.shape, z.dtype)
        n_2 = rng.normal(k_2, z.shape, z.dtype)
        middle = row["middle_x"] * x + row["middle_eps"] * eps + row["middle_noise"] * n_1
        x_middle = denoise(middle, row["middle"]).x
        mean = row["x"] * x + row["difference"] * (x_middle - x) + row["eps"] * eps
        return mean + row["noise_1"] * n_1 + row["noise_2"] * n_2, memory


def make(eta: NotNegative = 1.0) -> DPMppSDE:
    """Stochastic DPM-Solver++(2S).

    Args:
        eta: noise level, as in `dpmpp_2m`; 0 is `dpmpp_2s`.
    """
    return DPMppSDE(float(eta))
