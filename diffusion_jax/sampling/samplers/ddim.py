"""DDIM with noise level eta (Song et al. 2020, equation 12), in terms of gamma.

`z_s = alpha_s x + sqrt(sigma_s^2 - q^2) eps + q n` with `q = eta sigma_s sqrt(c)`. eta = 0 is the
first-order solver of the probability-flow ODE, eta = 1 is ancestral sampling.
"""

from dataclasses import dataclass

from diffusion_jax import rng
from diffusion_jax.allowed import Share
from diffusion_jax.sampling.samplers.base import Denoise, Rows, noise_fraction, scales, std
from diffusion_jax.types import Array


@dataclass(frozen=True)
class DDIM:
    """Order 1; `eta` from 0 (deterministic) to 1."""

    eta: float
    nfe_per_step: int = 1

    @property
    def noise_share(self) -> float:
        """Noise variance relative to ancestral sampling: `eta ** 2`."""
        return self.eta**2

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        _, _, a_s, s_s = scales(gammas)
        c = noise_fraction(gammas)
        return {
            "gamma": gammas[:-1],
            "x": a_s,
            "eps": s_s * std(1.0 - self.eta**2 * c),
            "noise": self.eta * s_s * std(c),
        }

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """One step."""
        pred = denoise(z, row["gamma"])
        z = row["x"] * pred.x + row["eps"] * pred.eps
        if self.eta > 0.0:
            z += row["noise"] * rng.normal(key, z.shape, z.dtype)
        return z, memory


def make(eta: Share = 0.0) -> DDIM:
    """DDIM; `eta` is the noise level in [0, 1]."""
    return DDIM(float(eta))
