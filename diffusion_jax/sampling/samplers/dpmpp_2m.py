"""DPM-Solver++(2M) with noise level eta (Lu et al. 2022b, algorithm 2 and its SDE form).

The exponential integrator of the reverse SDE whose noise is `eta` times ancestral sampling's
variance: with `h` the step in log-SNR / 2 and `a = 1 - exp(-(1 + eta) h)`,
`z_s = alpha_s (x + a d) + sigma_s exp(-eta h) eps + sigma_s sqrt(1 - exp(-2 eta h)) n`, where
`d = (x - x_previous) h / (2 h_previous)` extrapolates the prediction to the middle of the step.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax import rng
from diffusion_jax.allowed import NotNegative
from diffusion_jax.sampling.samplers.base import (
    Denoise,
    Rows,
    backend,
    growth,
    log_snr_steps,
    scales,
    std,
)
from diffusion_jax.types import Array


@dataclass(frozen=True)
class DPMpp2M:
    """Order 2 (weak order 2 with noise) at one call per step; memory is the last prediction."""

    eta: float
    nfe_per_step: int = 1

    @property
    def noise_share(self) -> float:
        """Noise variance relative to ancestral sampling: `eta`."""
        return self.eta

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        xp = backend(gammas)
        _, _, a_s, s_s = scales(gammas)
        h = log_snr_steps(gammas)
        return {
            "gamma": gammas[:-1],
            "x": a_s,
            "difference": -0.5 * a_s * xp.expm1(-(1.0 + self.eta) * h) * growth(h),
            "eps": s_s * xp.exp(-self.eta * h),
            "noise": s_s * std(-xp.expm1(-2.0 * self.eta * h)),
        }

    def init(self, z: Array) -> Array:
        """No prediction yet: the first row multiplies it by 0."""
        return jnp.zeros_like(z)

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: Array, key: Array
    ) -> tuple[Array, Array]:
        """One step."""
        x, eps = denoise(z, row["gamma"])
        z = row["x"] * x + row["difference"] * (x - memory) + row["eps"] * eps
        if self.eta > 0.0:
            z += row["noise"] * rng.normal(key, z.shape, z.dtype)
        return z, x


def make(eta: NotNegative = 0.0) -> DPMpp2M:
    """DPM-Solver++(2M).

    Args:
        eta: 0 solves the probability-flow ODE, 1 the reverse SDE of ancestral sampling.
    """
    return DPMpp2M(float(eta))
