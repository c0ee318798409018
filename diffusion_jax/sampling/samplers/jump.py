"""Jumps of a flow map (Boffi et al. 2024; Geng et al. 2025): `jump()`.

The network receives the gamma at which the step ends, `cond["to"]`, and its prediction lands there:
`z_s = alpha_s x + sigma_s eps`. Runs whose network does not receive it are refused; with a
third-party denoiser that ignores it, this is `ddim()`.
"""

from dataclasses import dataclass

from diffusion_jax.sampling.samplers.base import Denoise, Rows, scales
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Jump:
    """Deterministic, one call per step."""

    nfe_per_step: int = 1
    noise_share: float = 0.0
    cond_scalars: tuple[str, ...] = ("to",)

    def rows(self, gammas: Array) -> Rows:
        """Coefficients of every step."""
        _, _, a_s, s_s = scales(gammas)
        return {"gamma": gammas[:-1], "to": gammas[1:], "x": a_s, "eps": s_s}

    def init(self, z: Array) -> tuple:
        """No memory."""
        return ()

    def step(
        self, denoise: Denoise, row: Rows, z: Array, memory: tuple, key: Array
    ) -> tuple[Array, tuple]:
        """One jump."""
        pred = denoise(z, row["gamma"], to=row["to"])
        return row["x"] * pred.x + row["eps"] * pred.eps, memory


def make() -> Jump:
    """The sampler of flow maps: students trained with `distill(method=flow_map())`."""
    return Jump()
