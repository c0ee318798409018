"""DPM-Solver++(2S): singlestep midpoint method in log-SNR (Lu et al. 2022b, algorithm 1, r = 1/2).

A DDIM step to the middle of the step in log-SNR, a second prediction there, and then
`z_s = alpha_s (x + (1 - e^-h) (x_middle - x)) + sigma_s eps`.
"""

from dataclasses import dataclass

from diffusion_jax.sampling.samplers.base import (
    Denoise,
    Rows,
    alpha_of,
    backend,
    log_snr_steps,
    scales,
    sigma_of,
)
from diffusion_jax.types import Array


@dataclass(frozen=True)
class DPMpp2S:
    """Order 2, two calls per step, no memory."""

    nfe_per_step: int = 2
    noise_share: float = 0.0

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        _, _, a_s, s_s = scales(gammas)
        middle = 0.5 * (gammas[:-1] + gammas[1:])
        return {
            "gamma": gammas[:-1],
            "middle": middle,
            "middle_x": alpha_of(middle),
            "middle_eps": sigma_of(middle),
            "x": a_s,
            "difference": -a_s * backend(gammas).expm1(-log_snr_steps(gammas)),
            "eps": s_s,
        }

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """One step."""
        x, eps = denoise(z, row["gamma"])
        middle = row["middle_x"] * x + row["middle_eps"] * eps
        x_middle = denoise(middle, row["middle"]).x
        return row["x"] * x + row["difference"] * (x_middle - x) + row["eps"] * eps, memory


def make() -> DPMpp2S:
    """DPM-Solver++(2S)."""
    return DPMpp2S()
