"""CFG++ (Chung et al. 2024): the guided image, noised again with unconditional noise.

`Pred(x = x_null + lam (x_cond - x_null), eps = eps_null)`. One DDIM step with it is one with
ordinary guidance of weight `lam / (1 - exp(-h))`, `h` the step in log-SNR / 2: the weight grows
with the number of steps, so quote `lam` together with it, and expect no limit of many steps.
"""

import functools

from diffusion_jax.sampling.guidance.base import Context, Guidance, contrast, need_null
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def _guide(denoiser: Denoiser, context: Context, lam: float) -> Denoiser:
    need_null("cfgpp", context)

    def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
        given, null = contrast(denoiser, context, z, gamma, cond)
        return Pred(null.x + lam * (given.x - null.x), null.eps)

    return guided


def make(lam: float = 0.6) -> Guidance:
    """CFG++.

    Args:
        lam: the paper's weight, between 0 (unconditional) and 1. Use with `ddim()`.

    Returns:
        The guidance; `x` and `eps` of its predictions do not add up to `z`, on purpose.
    """
    return functools.partial(_guide, lam=float(lam))
