"""Clips the predicted image to a range, and recomputes the noise that belongs to it."""

import functools

import jax.numpy as jnp

from diffusion_jax.denoiser import after
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, Guidance, with_x
from diffusion_jax.types import Array, Cond, Denoiser, Pred


def _guide(
    denoiser: Denoiser, context: Context, inner: Guidance, lo: float, hi: float, keep_eps: bool
) -> Denoiser:
    def clipped(pred: Pred, z: Array, gamma: Array, cond: Cond) -> Pred:
        x = jnp.clip(pred.x, lo, hi)
        return Pred(x, pred.eps) if keep_eps else with_x(pred, x, gamma)

    return after(inner(denoiser, context), clipped)


def make(inner: Guidance, lo: float = -1.0, hi: float = 1.0, keep_eps: bool = False) -> Guidance:
    """`inner`, with predictions clipped to `[lo, hi]` and the noise that belongs to them.

    Args:
        inner: the guidance, for example `cfg(w=2.0)`, or `none()`.
        lo: smallest value.
        hi: largest value.
        keep_eps: leave the noise as it is: for `cfgpp`, whose noise is unconditional on purpose.

    Raises:
        ConfigError: the range is empty.
    """
    if not lo < hi:
        raise ConfigError(f"clip: lo={lo} must be below hi={hi}")
    return functools.partial(_guide, inner=inner, lo=float(lo), hi=float(hi), keep_eps=keep_eps)
