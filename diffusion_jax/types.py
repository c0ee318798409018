"""The types shared by all subpackages, and the signal and noise scales as functions of gamma.

Shapes: images and latents are `[B, H, W, C]`; `gamma` is a scalar, `[B]`, or broadcastable to the
latent (for schedules with one gamma per pixel). `gamma = -log SNR` grows with time, and
`alpha^2 = sigmoid(-gamma)`, `sigma^2 = sigmoid(gamma)` (Kingma et al. 2021, "Variational diffusion
models", section 3).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Float

Array = jax.Array
Params = Any  # a pytree of arrays
Cond = dict[str, Array]  # leading axis [B] in every leaf; {} when unconditional


class Pred(NamedTuple):
    """The prediction of a denoiser at a latent `z`, which all samplers and guidance methods use.

    Attributes:
        x: the predicted data, shape of `z`, in the units of the data ([-1, 1] for images).
        eps: the predicted noise, shape of `z`. Equal to `(z - alpha x) / sigma` unless a guidance
            method changes it.
    """

    x: Array
    eps: Array


class Terms(NamedTuple):
    """The parts of the variational bound, each `[B]`, in nats per example.

    `auxiliary` is the divergence of a schedule's auxiliary latent plus, for a bound that samples an
    autoencoder's latents, the correction for their noise; 0 without either.
    """

    prior: Array
    diffusion: Array
    reconstruction: Array
    auxiliary: Array | float = 0.0

    @property
    def total(self) -> Array:
        """The bound on the negative log-likelihood, `[B]`, nats."""
        return self.prior + self.diffusion + self.reconstruction + self.auxiliary


class Noise(NamedTuple):
    """All random numbers for one evaluation of a bound; losses are deterministic functions of it.

    Attributes:
        t: times in [0, 1], `[B]`.
        eps: noise of `z_t`, shape of what diffuses.
        eps_0: noise of `z_0` (reconstruction term), shape of what diffuses.
        dropout: one typed PRNG key per example `[B]`, or None for a deterministic network.
        latent: one typed PRNG key per example `[B]`, for a schedule's auxiliary latent, for sampled
            latents of an autoencoder, and for the runs of the objective `consistent`.
    """

    t: Array
    eps: Array
    eps_0: Array
    dropout: Array | None = None
    latent: Array | None = None


class Coded(NamedTuple):
    """Data with the distribution of their latents, `y ~ N(mean, std^2)`; y is what diffuses.

    Attributes:
        data: data in model space, `[B, ...]`.
        mean: means of the latents, `[B, ...]`.
        std: standard deviations of the latents, shape of `mean`; None for latents without noise.
    """

    data: Array
    mean: Array
    std: Array | None


Data = Array | Coded  # the input of a bound: data, or data that have already been encoded
Denoiser = Callable[[Array, Array, Cond], Pred]


def expand(gamma: ArrayLike, z: ArrayLike) -> Array:
    """Reshapes `gamma` (scalar, `[B]`, or already full rank) to broadcast against `z`."""
    gamma = jnp.asarray(gamma)
    return gamma.reshape(gamma.shape + (1,) * (z.ndim - 1)) if gamma.ndim == 1 else gamma


def alpha(gamma: Float[ArrayLike, "*g"]) -> Float[Array, "*g"]:
    """Scale of the data in `z = alpha x + sigma eps`: `sqrt(sigmoid(-gamma))`, shape of gamma.

    Variance preserving: `alpha^2 + sigma^2 = 1`. Accurate at both ends.
    """
    return jnp.exp(-0.5 * jax.nn.softplus(gamma))


def sigma(gamma: Float[ArrayLike, "*g"]) -> Float[Array, "*g"]:
    """Scale of the noise in `z = alpha x + sigma eps`: `sqrt(sigmoid(gamma))`, shape of gamma.

    This is not the sigma of EDM and k-diffusion, which is `sigma / alpha = exp(gamma / 2)`; see
    `sampling.sigmas`. Accurate at both ends.
    """
    return jnp.exp(-0.5 * jax.nn.softplus(-gamma))


def diffuse(
    x: Float[ArrayLike, "..."], gamma: Float[ArrayLike, "..."], eps: Float[Array, " *d"]
) -> Float[Array, " *d"]:
    """The forward process `z = alpha x + sigma eps` at `gamma`."""
    g = expand(gamma, eps)
    return alpha(g) * x + sigma(g) * eps


def least_noise(levels: int) -> float:
    """Default `gamma_min` for a number of levels.

    The noise scales with the spacing of levels, from -13.3 at 256 levels (Kingma et al. 2021). Less
    noise wastes capacity, more makes levels hard to distinguish in the reconstruction term.
    """
    return round(-13.3 + 2.0 * math.log(256.0 / levels), 1)
