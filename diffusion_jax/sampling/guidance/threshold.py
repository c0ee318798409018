"""Dynamic thresholding (Saharia et al. 2022, "Imagen", section 2.3).

`s = max(1, quantile(|x|, p))` per example, then `x <- clip(x, -s, s) / s`, with the noise
recomputed to match.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Part
from diffusion_jax.denoiser import then
from diffusion_jax.sampling.guidance.base import Context, Guidance, Wrapper, over_pixels, with_x
from diffusion_jax.types import Array, Cond, Denoiser, Pred


@dataclass(frozen=True)
class Threshold(Wrapper):
    """`inner`, with x scaled into [-1, 1] by its quantile `p`."""

    inner: Guidance
    p: float
    keep_eps: bool
    pixels: bool = True

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""

        def within(pred: Pred, z: Array, gamma: Array, cond: Cond) -> Pred:
            s = jnp.maximum(1.0, over_pixels(jnp.quantile, jnp.abs(pred.x), q=self.p))
            x = jnp.clip(pred.x, -s, s) / s
            return Pred(x, pred.eps) if self.keep_eps else with_x(pred, x, gamma)

        return then(self.inner(denoiser, context), within)


def make(inner: Guidance, p: Part = 0.995, keep_eps: bool = False) -> Threshold:
    """`inner`, with predictions kept inside [-1, 1].

    Args:
        inner: the guidance, for example `cfg(w=5.0)`, or `none()`.
        p: the quantile, as a fraction.
        keep_eps: leave the noise unchanged, for `cfgpp`, whose noise is unconditional on purpose.
    """
    return Threshold(inner, float(p), keep_eps)
