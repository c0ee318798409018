"""Data whose optimal denoiser is known, and the exact law of what a sampler makes of Gaussians.

`z` is `[B, D]` here. A Gaussian's denoiser is affine, and so is a whole run of a sampler: latents
are then written as *functionals* `[K, D]`, row 0 the constant, the next D rows the start, then one
row for each number drawn. The law of the end is read off exactly, whatever the sampler does inside.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.sampling import integrate
from diffusion_jax.types import Pred, alpha, expand, sigma

ENDS = (-13.3, 5.0)


def build(sampler):
    return registry.build("samplers", sampler)


def grid(spec, steps, ends=ENDS):
    return registry.build("grids", spec)(*ends, steps, lambda t: ends[0] + t * (ends[1] - ends[0]))


def from_x(x, z, gamma):
    g = expand(gamma, z)
    return Pred(x, (z - alpha(g) * x) / sigma(g))


@dataclass(frozen=True)
class Gaussian:
    """x ~ N(mean, cov)."""

    mean: np.ndarray
    cov: np.ndarray

    def denoise(self, z, gamma, constant=1.0):
        """`E[x | z]` by regression; `constant` is the functional of the number 1."""
        a, s = alpha(gamma), sigma(gamma)
        values, axes = (jnp.asarray(v, z.dtype) for v in np.linalg.eigh(self.cov))
        gain = axes * (a * values / (a**2 * values + s**2)) @ axes.T
        mean = jnp.asarray(constant * self.mean, z.dtype)
        return from_x(mean + (z - a * mean) @ gain, z, gamma)

    def noised(self, gamma):
        """Mean and covariance of z at `gamma`."""
        a, s = float(alpha(gamma)), float(sigma(gamma))
        return a * self.mean, a**2 * self.cov + s**2 * np.eye(len(self.cov))

    def flow(self, z, t, s):
        """The probability-flow ODE from gamma `t` to `s`, solved: each principal axis scales."""
        (m_t, c_t), (m_s, c_s) = self.noised(t), self.noised(s)
        axes = np.linalg.eigh(self.cov)[1]
        scale = np.sqrt(np.diag(axes.T @ c_s @ axes) / np.diag(axes.T @ c_t @ axes))
        return m_s + (z - m_t) @ axes * scale @ axes.T


@dataclass(frozen=True)
class ConsistentGaussian(Gaussian):
    """Its exact consistency model: predictions lead to where the flow ends."""

    end: float = -6.0

    def denoise(self, z, gamma, constant=1.0):
        values, axes = (jnp.asarray(v, z.dtype) for v in np.linalg.eigh(self.cov))
        std, std_end = (jnp.sqrt(alpha(g) ** 2 * values + sigma(g) ** 2) for g in (gamma, self.end))
        mean = jnp.asarray(constant * self.mean, z.dtype)
        z_end = alpha(self.end) * mean + (z - alpha(gamma) * mean) @ (
            axes * (std_end / std) @ axes.T
        )
        x = z_end - sigma(self.end) / sigma(gamma) * z
        return from_x(x / (-alpha(self.end) * jnp.expm1(0.5 * (self.end - gamma))), z, gamma)


@dataclass(frozen=True)
class Mixture:
    """x ~ sum_k probs[k] N(means[k], var I): one component per class; label K is "any"."""

    means: np.ndarray  # [K, D]
    probs: np.ndarray
    var: float

    def log_joint(self, z, gamma):
        """`log p(k, z)` up to a constant, `[B, K]`."""
        g = expand(gamma, z)
        a, s = alpha(g), sigma(g)
        total = a**2 * self.var + s**2
        means, probs = jnp.asarray(self.means, z.dtype), jnp.asarray(self.probs, z.dtype)
        off = jnp.sum((z[:, None] - jnp.expand_dims(a, -1) * means) ** 2, -1)
        return jnp.log(probs) - 0.5 * off / total - 0.5 * z.shape[-1] * jnp.log(total)

    def denoise(self, z, gamma, weights=None):
        g = expand(gamma, z)
        a, s = alpha(g), sigma(g)
        if weights is None:
            weights = jax.nn.softmax(self.log_joint(z, gamma), -1)
        mean = weights @ jnp.asarray(self.means, z.dtype)
        return from_x(mean + a * self.var / (a**2 * self.var + s**2) * (z - a * mean), z, gamma)

    def conditional(self, z, gamma, cond):
        """The denoiser of a class-conditional model with its null class."""
        k = len(self.probs)
        known = jax.nn.one_hot(cond["label"], k, dtype=z.dtype)
        posterior = jax.nn.softmax(self.log_joint(z, gamma), -1)
        weights = jnp.where((cond["label"] == k)[:, None], posterior, known)
        return self.denoise(z, gamma, weights)

    def null(self, cond):
        return {**cond, "label": jnp.full_like(cond["label"], len(self.probs))}

    def log_prob(self, z, gamma, cond):
        """The exact noisy classifier."""
        log_p = jax.nn.log_softmax(self.log_joint(z, gamma), -1)
        return jnp.take_along_axis(log_p, cond["label"][:, None], -1)[:, 0]


MIXTURE = Mixture(
    np.array([[-1.0, 0.5], [0.4, -0.3], [1.1, 0.9]]), np.array([0.3, 0.3, 0.4]), var=0.04
)


class Draws:
    """Stands in for `jax.random.normal`: every number drawn is a new functional."""

    def __init__(self, used, size):
        self.used, self.size = used, size

    def __call__(self, key, shape=(), dtype=float):
        assert shape[0] == self.size, "a draw that is not one per latent"
        out = np.zeros(shape)
        out[self.used + np.arange(shape[1]), np.arange(shape[1])] = 1.0
        self.used += shape[1]
        return jnp.asarray(out, dtype)


def law(monkeypatch, data, sampler, gammas, start=None, hooks=None, size=None, solve=integrate):
    """Mean and covariance of the end of a run on Gaussian data, exactly.

    `solve` is called as `integrate` is; `hooks(constant)` gives its keyword arguments, in
    functionals.
    """
    d = len(data.mean)
    size = size or 1024 * math.ceil((1 + d * (1 + 8 * len(gammas))) / 1024)  # few shapes to compile
    mean, cov = start or data.noised(gammas[0])
    constant = np.zeros((size, 1))
    constant[0] = 1.0
    z = np.zeros((size, d))
    z[0] = mean
    z[1 : 1 + d] = np.linalg.cholesky(cov).T
    with monkeypatch.context() as m, jax.disable_jit():
        m.setattr(jax.random, "normal", Draws(1 + d, size))
        end = solve(
            lambda z, gamma: data.denoise(z, gamma, constant),
            build(sampler) if isinstance(sampler, str) else sampler,
            gammas,
            jnp.asarray(z),
            jax.random.key(0),
            **(hooks(constant) if hooks else {}),
        )
    end = np.asarray(end)
    return end[0], end[1:].T @ end[1:]
