"""MuLAN's schedule: one gamma per pixel, conditioned on the image (Sahoo et al. 2024).

A latent drawn from `q(latent | x)` sets, per pixel, a polynomial whose derivative is a square,

    F(t) = Int_0^t (a s^2 + b s + c)^2 ds,
    gamma(t) = gamma_min + (gamma_max - gamma_min) F(t) / F(1),

so gamma rises everywhere and its ends are exact for every pixel and latent. Here the latent is
Gaussian with prior N(0, I): its KL divergence is exact and the total is a bound. (The published
k-of-n latent underestimates its own cost.) At initialisation the curve is straight and the latent
carries no information, so a new model is VDM.
"""

import math
from dataclasses import dataclass
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Count, Counts, Finite
from diffusion_jax.process.schedules.base import LATENT, check_ends
from diffusion_jax.types import Array, Params


class Posterior(nn.Module):
    """`x -> (mean, log std)` of the latent, `[B, size]` each; both zero at initialisation."""

    size: int
    features: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """The two halves of a small convolutional network's output at `x` `[B,H,W,C]`."""
        for i in range(2):
            x = nn.swish(nn.Conv(self.features, (3, 3), (2, 2), name=f"conv{i}")(x))
        x = x.reshape(x.shape[0], -1)
        h = nn.Dense(2 * self.size, kernel_init=nn.initializers.zeros, name="out")(x)
        return h[:, : self.size], h[:, self.size :]


class Coefficients(nn.Module):
    """`latent -> (a, b, c)`, `[B, dims]` each; at initialisation a = b = 0 and c is constant."""

    dims: int
    features: int

    @nn.compact
    def __call__(self, latent: Array) -> tuple[Array, Array, Array]:
        """The coefficients of every pixel; c is positive."""
        h = latent
        for i in range(2):
            h = nn.swish(nn.Dense(self.features, name=f"dense{i}")(h))
        out = nn.Dense(3 * self.dims, kernel_init=nn.initializers.zeros, name="out")(h)
        a, b, c = jnp.split(out, 3, axis=-1)
        return a, b, 1e-3 + jax.nn.softplus(c)


def _rise(a: Array, b: Array, c: Array, t: Array) -> Array:
    """The integral of `(a s^2 + b s + c)^2` from 0 to `t`, as a fraction of that from 0 to 1.

    The form `t (1 - (1 - t) ...)` is exact at both ends, and exactly t if a = b = 0.
    """
    k5, k4, k3, k2 = a * a / 5.0, a * b / 2.0, (b * b + 2.0 * a * c) / 3.0, b * c
    whole = k5 + k4 + k3 + k2 + c * c
    p1 = 1.0 + t
    p2 = 1.0 + t * p1
    bend = k2 + k3 * p1 + k4 * p2 + k5 * (1.0 + t * p2)
    return t * (1.0 - (1.0 - t) * bend / whole)


@dataclass(frozen=True)
class Mulan:
    """A schedule with a latent, as described in `schedules.base`; for its fields see `make`."""

    latent: int
    features: int
    shape: tuple[int, ...]
    gamma_min: float
    gamma_max: float

    def _posterior(self) -> Posterior:
        return Posterior(self.latent, min(self.features, 64))

    def _coefficients(self) -> Coefficients:
        return Coefficients(math.prod(self.shape), self.features)

    def init(self, key: Array) -> Params:
        """`{"posterior", "coefficients"}`, the parameters of the two networks."""
        k_posterior, k_coefficients = jax.random.split(key)
        x, latent = jnp.zeros((1, *self.shape)), jnp.zeros((1, self.latent))
        return {
            "posterior": self._posterior().init(k_posterior, x)["params"],
            "coefficients": self._coefficients().init(k_coefficients, latent)["params"],
        }

    def posterior(self, params: Params, x: Array, keys: Array) -> tuple[Array, Array]:
        """A draw of the latent given `x`, `[B, latent]`, and `KL(q || N(0, I))`, `[B]`, nats."""
        out = self._posterior().apply({"params": params["posterior"]}, x)
        mean, log_std = cast(tuple[Array, Array], out)
        noise = jax.vmap(lambda k: jax.random.normal(k, (self.latent,), mean.dtype))(keys)
        kl = 0.5 * (jnp.square(mean) + jnp.expm1(2.0 * log_std)) - log_std
        return mean + jnp.exp(log_std) * noise, kl.sum(axis=-1)

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t`: `[B, *shape]` given a latent, else the pixel mean at latent 0."""
        t = jnp.asarray(t)
        given = params.get(LATENT)
        latent = jnp.zeros((1, self.latent)) if given is None else given
        out = self._coefficients().apply({"params": params["coefficients"]}, latent)
        a, b, c = cast(tuple[Array, Array, Array], out)
        if given is None:
            fraction = _rise(a[0], b[0], c[0], t[..., None]).mean(axis=-1)
        else:
            shape = (-1,) + (1,) * len(self.shape)
            at = jnp.broadcast_to(t, latent.shape[:1]).reshape(shape)
            a, b, c = (k.reshape(-1, *self.shape) for k in (a, b, c))
            fraction = _rise(a, b, c, at)
        return self.gamma_min * (1.0 - fraction) + self.gamma_max * fraction


def make(
    shape: Counts,
    latent: Count = 50,
    features: Count = 1024,
    gamma_min: Finite = -13.3,
    gamma_max: Finite = 5.0,
) -> Mulan:
    """One gamma per pixel, conditioned on a Gaussian latent.

    Args:
        shape: shape of one image.
        latent: length of the latent.
        features: width of the network from latent to coefficients.
        gamma_min: gamma at t = 0.
        gamma_max: gamma at t = 1.
    """
    check_ends(gamma_min, gamma_max)
    return Mulan(latent, features, tuple(shape), gamma_min, gamma_max)
