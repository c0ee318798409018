"""Ancestral sampling: VDM's generative model itself (Kingma et al. 2021, equation 34).

`z_s = (alpha_s / alpha_t)(z_t - sigma_t c eps) + sigma_s sqrt(c) n`.
"""

from dataclasses import dataclass

from diffusion_jax import rng
from diffusion_jax.sampling.samplers.base import Denoise, Rows, noise_fraction, scales, std
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Ancestral:
    """Weak order 1; exact in the limit of many steps."""

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
            "noise": s_s * std(c),
        }

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """One step."""
        eps = denoise(z, row["gamma"]).eps
        noise = rng.normal(key, z.shape, z.dtype)
        return row["z"] * z - row["eps"] * eps + row["noise"] * noise, memory


def make() -> Ancestral:
    """Ancestral sampling."""
    return Ancestral()
