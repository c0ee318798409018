"""Clips the predicted image to a range and recomputes the noise (unrelated to `clip_guidance`)."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Number
from diffusion_jax.denoiser import then
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.guidance.base import Context, Guidance, Wrapper, with_x
from diffusion_jax.types import Array, Cond, Denoiser, Pred


@dataclass(frozen=True)
class ClipDenoised(Wrapper):
    """`inner` with x in `[lo, hi]`."""

    inner: Guidance
    lo: float
    hi: float
    keep_eps: bool
    pixels: bool = True

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""

        def clipped(pred: Pred, z: Array, gamma: Array, cond: Cond) -> Pred:
            x = jnp.clip(pred.x, self.lo, self.hi)
            return Pred(x, pred.eps) if self.keep_eps else with_x(pred, x, gamma)

        return then(self.inner(denoiser, context), clipped)


def make(
    inner: Guidance, lo: Number = -1.0, hi: Number = 1.0, keep_eps: bool = False
) -> ClipDenoised:
    """`inner`, with predictions clipped to `[lo, hi]` and the noise recomputed to match.

    Args:
        inner: the guidance, for example `cfg(w=2.0)`, or `none()`.
        lo: smallest value.
        hi: largest value.
        keep_eps: leave the noise unchanged, for `cfgpp`, whose noise is unconditional on purpose.

    Raises:
        ConfigError: the range is empty.
    """
    if not lo < hi:
        raise ConfigError(f"clip_denoised: lo={lo} must be below hi={hi}")
    return ClipDenoised(inner, float(lo), float(hi), keep_eps)
