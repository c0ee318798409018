"""Heun's method for `dy / d level = eps` (Karras et al. 2022, algorithm 1), without churn.

With `y = z / alpha` and `level = sigma / alpha` (their sigma): a DDIM step, a second prediction at
its end, and the trapezoidal rule, which adds `alpha_s (level_s - level_t) (eps_end - eps) / 2`.
Churn belongs to the plan: see `diffusion_jax/sampling/plans/churn.py`.
"""

from dataclasses import dataclass

from diffusion_jax.sampling.samplers.base import Denoise, Rows, backend, log_snr_steps, scales
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Heun:
    """Order 2, two calls per step, no memory."""

    nfe_per_step: int = 2
    noise_share: float = 0.0

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        _, _, a_s, s_s = scales(gammas)
        return {
            "gamma": gammas[:-1],
            "end": gammas[1:],
            "x": a_s,
            "eps": s_s,
            # alpha_s (level_s - level_t) / 2 without a difference of two large numbers.
            "difference": -0.5 * s_s * backend(gammas).expm1(log_snr_steps(gammas)),
        }

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """One step."""
        x, eps = denoise(z, row["gamma"])
        z = row["x"] * x + row["eps"] * eps
        return z + row["difference"] * (denoise(z, row["end"]).eps - eps), memory


def make() -> Heun:
    """Heun's method."""
    return Heun()
