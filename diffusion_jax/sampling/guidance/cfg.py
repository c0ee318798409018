"""Classifier-free guidance (Ho & Salimans 2022), one batched network call.

`pred = null + w (conditional - null)`, in any parameterization alike: all of them are affine in
the prediction with weights that sum to one. Their paper's weight is `w - 1`.
"""

import functools

import jax

from diffusion_jax.sampling.guidance.base import Context, Guidance, contrast, need_null
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def _guide(denoiser: Denoiser, context: Context, w: float) -> Denoiser:
    need_null("cfg", context)
    if w == 1.0:
        return denoiser
    if w == 0.0:
        return lambda z, gamma, cond: denoiser(z, gamma, context.null(cond))

    def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
        given, null = contrast(denoiser, context, z, gamma, cond)
        return jax.tree.map(lambda c, u: u + w * (c - u), given, null)

    return guided


def make(w: float = 1.5) -> Guidance:
    """Classifier-free guidance with weight `w` (0 unconditional, 1 conditional, above 1 stronger).

    Args:
        w: the weight. 0 and 1 cost one network call of the batch, others one of twice the batch.

    Returns:
        The guidance. Applying it to an unconditional model raises `ConfigError`.
    """
    return functools.partial(_guide, w=float(w))
