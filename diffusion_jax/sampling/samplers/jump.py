"""Jumps of a flow map (Boffi et al. 2024; Geng et al. 2025): `jump()`.

The network is told where a step ends, `cond["to"]`, and predicts what lands there:
`z_s = alpha_s x + sigma_s eps`. A run whose network is not told is refused; over anybody's denoiser
that is not, it is `ddim()`.
"""

from dataclasses import dataclass

from diffusion_jax.sampling.samplers.base import Denoise, Rows, scales
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Jump:
    """One call a step, without noise."""

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
    """The sampler of a flow map, a student trained with `distill(method=flow_map())`."""
    return Jump()
