"""Langevin corrector (Song et al. 2021, algorithm 4): `z <- z + delta score + sqrt(2 delta) n`.

A `correct` hook: it runs at the gamma where the next step starts and preserves the marginal there,
up to an error of the order of its step: for a marginal of variance `v` the stationary variance is
`v / (1 - delta / (2 v))`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax import rng
from diffusion_jax.allowed import Count, Positive
from diffusion_jax.sampling.samplers.base import Denoise
from diffusion_jax.types import Array, expand, sigma


def _norm(a: Array) -> Array:
    """Per-example norm, shaped to broadcast."""
    return jnp.sqrt(jnp.square(a).sum(tuple(range(1, a.ndim)), keepdims=True))


def make(
    r: Positive = 0.16, repeats: Count = 1, adaptive: bool = False
) -> Callable[[Denoise, Array, Array, Array], Array]:
    """The Langevin corrector.

    Args:
        r: signal-to-noise ratio of a step: `delta = 2 r^2 sigma^2`.
        repeats: number of steps at each level, one network call each.
        adaptive: the paper's rule `delta = 2 (r |n| / |score|)^2`, with norms per example.

    Returns:
        `(denoise, z, gamma, key) -> z` for `integrate(..., correct=...)`; z is `[B, ...]`.
    """

    def correct(denoise: Denoise, z: Array, gamma: Array, key: Array) -> Array:
        s = sigma(expand(gamma, z))

        def once(z: Array, key: Array) -> tuple[Array, None]:
            eps = denoise(z, gamma).eps
            n = rng.normal(key, z.shape, z.dtype)
            # In units of sigma: delta / sigma^2 = 2 size^2, and the score is -eps / sigma.
            size = r * _norm(n) / _norm(eps) if adaptive else r
            return z + s * (2.0 * size * n - 2.0 * size**2 * eps), None

        return jax.lax.scan(once, z, rng.split(key, repeats))[0]

    return correct
