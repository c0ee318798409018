"""Multistep sampling of consistency models (Song et al. 2023): `renoise()`.

Every prediction leads to the end e of the plan, `z_e = alpha_e x + sigma_e eps`, and fresh noise
leads back to the next gamma s: `z_s = (alpha_s / alpha_e) z_e + sigma_s sqrt(1 - exp(e - s)) n`,
which is `alpha_s x + sigma_s n` where the end has no noise. It is exact for an exact consistency
model; one step is that of `ddim()`. Means of the data are not such predictions: with them it loses
variance in every step, so that a run which is no student of the kind is refused.
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
    """One call a step; all noise but what is left at the end is new in each."""

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
        """To the end, and back to where the row ends."""
        pred = denoise(z, row["gamma"])
        noise = rng.normal(key, z.shape, z.dtype)
        return row["x"] * pred.x + row["eps"] * pred.eps + row["noise"] * noise, memory


def make() -> Renoise:
    """The sampler of consistency models: students trained with `scm()` or `ect()`."""
    return Renoise()
