"""Classifier-free guidance (Ho & Salimans 2022), one batched network call.

`pred = null + w (conditional - null)`, in any parameterization alike: all of them are affine in
the prediction with weights that sum to one. Their paper's weight is `w - 1`.
"""

import functools

import jax
import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.guidance.base import Context, Guidance
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def _interleave(a: Array, b: Array) -> Array:
    """`[a0, b0, a1, b1, ...]`: a pair stays on one device when the batch is sharded."""
    return jnp.stack([a, b], axis=1).reshape(2 * a.shape[0], *a.shape[1:])


def _guide(denoiser: Denoiser, context: Context, w: float) -> Denoiser:
    if context.null is None:
        raise ConfigError(
            "cfg: this model is unconditional, so there is nothing to guide towards; train with "
            "class_dropout > 0 on labelled data, or use guidance='none()'"
        )
    if w == 1.0:
        return denoiser

    def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
        gamma = jnp.asarray(gamma)
        both = jax.tree.map(_interleave, cond, context.null(cond))
        g = jnp.repeat(gamma, 2, axis=0) if gamma.ndim else gamma
        pred = denoiser(jnp.repeat(z, 2, axis=0), g, both)

        def mix(p: Array) -> Array:
            pair = p.reshape(z.shape[0], 2, *z.shape[1:])
            return pair[:, 1] + w * (pair[:, 0] - pair[:, 1])

        return Pred(*map(mix, pred))

    return guided


def make(w: float = 1.5) -> Guidance:
    """Classifier-free guidance with weight `w` (0 unconditional, 1 conditional, above 1 stronger).

    Args:
        w: the weight. 1 costs one network call of the batch, anything else one of twice the batch.

    Returns:
        The guidance. Applying it to an unconditional model raises `ConfigError`.
    """
    return functools.partial(_guide, w=float(w))
