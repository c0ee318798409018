"""Ancestral sampling of DiffEnc exactly as published, for a finite number of steps.

VDM's mean plus `c alpha_s (gamma_t - gamma_s) sigma_t^2 x_hat` (Nielsen et al. 2024, section 4).
Its bound is `discrete(timesteps=T)`. `ancestral()` has the same limit of small steps.
"""

from dataclasses import dataclass

from diffusion_jax import rng
from diffusion_jax.allowed import Finite
from diffusion_jax.sampling.samplers.base import Denoise, Rows, noise_fraction, scales, std
from diffusion_jax.types import Array


@dataclass(frozen=True)
class AncestralDiffEnc:
    """Weak order 1.

    Attributes:
        mean_coefficient: coefficient of the mean correction that this sampler makes itself.
        nfe_per_step: network calls per step.
        noise_share: see `Sampler`.
    """

    mean_coefficient: float
    nfe_per_step: int = 1
    noise_share: float = 1.0

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        a_t, s_t, a_s, s_s = scales(gammas)
        c = noise_fraction(gammas)
        return {
            "gamma": gammas[:-1],
            "z": a_s / a_t,
            "eps": a_s / a_t * s_t * c,
            "x": self.mean_coefficient * a_s * (gammas[:-1] - gammas[1:]) * s_t**2,
            "noise": s_s * std(c),
        }

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """One step."""
        pred = denoise(z, row["gamma"])
        mean = row["z"] * z - row["eps"] * pred.eps + row["x"] * pred.x
        return mean + row["noise"] * rng.normal(key, z.shape, z.dtype), memory


def make(mean_coefficient: Finite = 1.0) -> AncestralDiffEnc:
    """Published ancestral sampling; `mean_coefficient` is the encoder's (1 for DiffEnc)."""
    return AncestralDiffEnc(float(mean_coefficient))
