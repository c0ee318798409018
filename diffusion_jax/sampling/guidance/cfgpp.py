"""CFG++ (Chung et al. 2024): the guided image, noised again with the unconditional noise.

`Pred(x = x_null + lam (x_cond - x_null), eps = eps_null)`. A DDIM step with it equals one with
ordinary guidance of weight `lam / (1 - exp(-h))`, `h` the step in log-SNR / 2. That weight grows
with the number of steps, so report `lam` together with it, and expect no limit of many steps.
"""

from dataclasses import dataclass

from diffusion_jax.allowed import Share
from diffusion_jax.sampling.guidance.base import Context, contrast, need_null
from diffusion_jax.types import Array, Cond, Denoiser, Pred


@dataclass(frozen=True)
class CFGpp:
    """CFG++ with the paper's weight `lam`."""

    lam: float

    def check(self, context: Context) -> None:
        """Needs a null condition."""
        need_null("cfgpp", context)

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        null = need_null("cfgpp", context)

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            strong, weak = contrast(denoiser, null, z, gamma, cond)
            return Pred(weak.x + self.lam * (strong.x - weak.x), weak.eps)

        return guided


def make(lam: Share = 0.6) -> CFGpp:
    """CFG++.

    Args:
        lam: the paper's weight, between 0 (unconditional) and 1. Use with `ddim()`.

    Returns:
        The guidance; `x` and `eps` of its predictions do not add up to `z`, on purpose.
    """
    return CFGpp(float(lam))
