"""Guidance by a linear measurement `y = A x + noise`: posterior sampling without a classifier.

The measurement is an array, so these are built in Python rather than from a spec string. The added
score is `G = (d x_hat / d z)^T A^T w`, where `w` depends on the method and the product with the
denoiser's Jacobian takes one backward pass (`exact`: one for each measured value).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.sampling.guidance.base import Context, norm, with_score
from diffusion_jax.types import Array, Cond, Denoiser, Pred, alpha, sigma

Forward = Callable[[Array], Array]  # linear: [B, ...] -> [B, M]


def _rows(forward: Forward, z: Array, size: int) -> Array:
    """The rows of A as images `[M, ...]`."""
    shape = jax.ShapeDtypeStruct((1, *z.shape[1:]), z.dtype)
    transpose = jax.linear_transpose(forward, shape)
    return jax.vmap(lambda e: transpose(e[None])[0][0])(jnp.eye(size, dtype=z.dtype))


def _solve(matrix: Array, variance: float, residual: Array) -> Array:
    """`(matrix + variance I)^-1 residual`, per example."""
    noisy = matrix + variance * jnp.eye(residual.shape[-1], dtype=residual.dtype)
    return jnp.linalg.solve(noisy, residual[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class Exact:
    """See `exact`."""

    forward: Forward
    y: Array
    variance: float

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            x, pull, pred = jax.vjp(_x_first(denoiser, gamma, cond), z, has_aux=True)
            residual = self.y - self.forward(x)
            rows = _rows(self.forward, z, residual.shape[-1])
            pulled = jax.vmap(lambda a: pull(jnp.broadcast_to(a, x.shape))[0])(rows)
            # A (dx/dz) A^T, per example: dx/dz is symmetric for a posterior mean.
            matrix = jnp.moveaxis(jax.vmap(self.forward)(pulled), 0, 1)
            w = _solve(sigma(gamma) ** 2 / alpha(gamma) * matrix, self.variance, residual)
            return with_score(pred, jnp.einsum("mb...,bm->b...", pulled, w), gamma)

        return guided


def exact(forward: Forward, y: Array, variance: float) -> Exact:
    """The exact posterior score for Gaussian data, and its moment matching for other data.

    `w = (A V A^T + variance I)^-1 (y - A x_hat)` with `V = Cov[x | z] = (sigma^2 / alpha)
    d x_hat / d z` (Rozet et al. 2024, "Learning diffusion priors from observations").

    Args:
        forward: A, linear, `[B, ...] -> [B, M]`, acting on each example alone.
        y: the measurement, `[M]` or `[B, M]`.
        variance: variance of the measurement noise.

    Returns:
        The guidance, for scalar gamma: M backward passes of the denoiser per call.
    """
    return Exact(forward, y, variance)


@dataclass(frozen=True, eq=False)
class PiGDM:
    """See `pigdm`."""

    forward: Forward
    y: Array
    variance: float

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            x, pull, pred = jax.vjp(_x_first(denoiser, gamma, cond), z, has_aux=True)
            residual = self.y - self.forward(x)
            rows = _rows(self.forward, z, residual.shape[-1])
            w = _solve(sigma(gamma) ** 2 * self.forward(rows), self.variance, residual)
            extra = pull(jnp.einsum("m...,bm->b...", rows, w).astype(x.dtype))[0]
            return with_score(pred, extra, gamma)

        return guided


def pigdm(forward: Forward, y: Array, variance: float) -> PiGDM:
    """Pseudo-inverse guidance (Song et al. 2023, "PiGDM"): `V = sigma^2 I`.

    Args:
        forward: A, linear, `[B, ...] -> [B, M]`, acting on each example alone.
        y: the measurement, `[M]` or `[B, M]`.
        variance: variance of the measurement noise.

    Returns:
        The guidance, for scalar gamma: one backward pass of the denoiser per call.
    """
    return PiGDM(forward, y, variance)


@dataclass(frozen=True, eq=False)
class DPS:
    """See `dps`."""

    forward: Forward
    y: Array
    scale: float
    limit: float

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            def residual_norm(z: Array) -> tuple[Array, Pred]:
                pred = denoiser(z, gamma, cond)
                return norm(self.y - self.forward(pred.x)).sum(), pred

            gradient, pred = jax.grad(residual_norm, has_aux=True)(z)
            extra = -self.scale * gradient
            moved = sigma(gamma) * norm(extra) / math.sqrt(math.prod(z.shape[1:]))
            extra = extra * jnp.minimum(1.0, self.limit / jnp.maximum(moved, 1e-30))
            return with_score(pred, extra, gamma)

        return guided


def dps(forward: Forward, y: Array, scale: float = 1.0, limit: float = math.inf) -> DPS:
    """Diffusion posterior sampling (Chung et al. 2023, algorithm 1), as an addition to the score.

    `G = -scale grad_z |y - A x_hat(z)|`: the norm, not its square, and per example (the reference
    code takes one norm over the whole batch, which couples the examples). The paper adds it to the
    latent after an ancestral step; added to the score it works with every sampler, but `scale` is
    in other units than theirs.

    Args:
        forward: A, `[B, ...] -> [B, M]`; it need not be linear, but acts on each example alone.
        y: the measurement, `[M]` or `[B, M]`.
        scale: how strongly to follow the measurement.
        limit: largest root mean square of the change in eps, per example; the gradient is stiff
            where the measurement is much more precise than the prediction.

    Returns:
        The guidance; one backward pass of the denoiser per call.
    """
    return DPS(forward, y, scale, limit)


def _x_first(denoiser: Denoiser, gamma: Array, cond: Cond) -> Callable:
    """`z -> (x, pred)`: for the Jacobian of x, with the whole prediction as auxiliary output."""

    def predict(z: Array) -> tuple[Array, Pred]:
        pred = denoiser(z, gamma, cond)
        return pred.x, pred

    return predict
