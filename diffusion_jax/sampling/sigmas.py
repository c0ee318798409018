"""Sampling with noise levels sigma, for denoisers `(x, sigma) -> denoised`, `x = data + sigma n`.

This is the convention of Karras et al. (2022) and k-diffusion. Our latents are `z = alpha x` with
`alpha = 1 / sqrt(1 + sigma^2)`, and `gamma = 2 log sigma`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.loop import integrate
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Array, Pred, alpha, expand


def gammas_of(sigmas: ArrayLike) -> np.ndarray:
    """The plan `2 log sigma`, float64; sigma 0 becomes -inf, with which a plan may end.

    Raises:
        ConfigError: a sigma is negative.
    """
    sigmas = np.asarray(sigmas, np.float64)
    if np.any(sigmas < 0.0):
        raise ConfigError(f"sigmas={sigmas} must not be negative")
    with np.errstate(divide="ignore"):
        return 2.0 * np.log(sigmas)


def denoiser_of(model: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Pred]:
    """`(z, gamma) -> Pred` from `(x [B, ...], sigma [B]) -> denoised [B, ...]`."""

    def denoise(z: Array, gamma: Array) -> Pred:
        sigma = jnp.exp(0.5 * jnp.broadcast_to(gamma, z.shape[:1]))
        noisy = z / alpha(expand(gamma, z))
        x = jnp.asarray(model(noisy, sigma), z.dtype)
        return Pred(x=x, eps=(noisy - x) / expand(sigma, z))

    return denoise


def integrate_sigmas(
    model: Callable[[Array, Array], Array],
    sampler: Sampler,
    sigmas: ArrayLike,
    x: Array,
    key: Array,
    **hooks: Any,
) -> Array:
    """Runs `sampler` along noise levels sigma, as k-diffusion's `sample_...` functions do.

    Args:
        model: `(x, sigma [B]) -> denoised`.
        sampler: the numerical method, from `diffusion_jax.sampling.samplers`.
        sigmas: `[n + 1]`, falling; the last may be 0.
        x: data plus `sigmas[0]` times noise, `[B, ...]`.
        key: PRNG key, or one per example.
        **hooks: hooks of `integrate`, in terms of z and gamma.

    Returns:
        Data plus `sigmas[-1]` times noise.
    """
    gammas = gammas_of(sigmas)
    first, last = (jax.device_get(alpha(jnp.asarray(g, x.dtype))) for g in gammas[[0, -1]])
    z = integrate(denoiser_of(model), sampler, gammas, first * x, key, **hooks)
    return z / last
