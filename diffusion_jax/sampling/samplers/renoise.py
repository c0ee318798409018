"""Multistep sampling of consistency models (Song et al. 2023): `renoise()`.

Every prediction leads to the end e of the plan, `z_e = alpha_e x + sigma_e eps`, and fresh noise
leads back up to the next gamma s: `z_s = (alpha_s / alpha_e) z_e + sigma_s sqrt(1 - exp(e - s)) n`,
which is `alpha_s x + sigma_s n` if there is no noise at the end. It is exact for an exact
consistency model; a single step equals one of `ddim()`. With predictions of the mean of the data
every step would lose variance, so runs that are not consistency models are refused.
"""

import math
from dataclasses import dataclass

from diffusion_jax import rng
from diffusion_jax.sampling.samplers.base import (
    Denoise,
    Rows,
    alpha_of,
    backend,
    scales,
    sigma_of,
    std,
)
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Renoise:
    """One call per step; all noise above the level of the end is redrawn in each step."""

    nfe_per_step: int = 1
    noise_share: float = math.inf
    to_end: bool = True

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        _, _, a_s, s_s = scales(gammas)
        end = gammas[-1:]
        return {
            "gamma": gammas[:-1],
            "x": a_s,
            "eps": a_s / alpha_of(end) * sigma_of(end),
            "noise": s_s * std(-backend(gammas).expm1(end - gammas[1:])),
        }

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """Predicts the end of the plan, and adds noise up to the end of the step."""
        pred = denoise(z, row["gamma"])
        noise = rng.normal(key, z.shape, z.dtype)
        return row["x"] * pred.x + row["eps"] * pred.eps + row["noise"] * noise, memory


def make() -> Renoise:
    """The sampler of consistency models: students trained with `scm()` or `ect()`."""
    return Renoise()
