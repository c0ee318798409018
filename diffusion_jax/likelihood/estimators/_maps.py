"""Change of variables along a chain of maps, with full Jacobians."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusion_jax.types import Array

# `(z [B, ...], gamma, end) -> z_end`, for scalar gammas; treats examples independently.
Jump = Callable[[Array, Array, Array], Array]


def _with_jacobian(function: Callable[[Array], Array], z: Array) -> tuple[Array, Array]:
    """`function(z)` and the Jacobian of every example, `[B, d, d]`."""
    value, push = jax.linearize(function, z)
    dims = math.prod(z.shape[1:])

    def column(tangent: Array) -> Array:
        wide = jnp.broadcast_to(tangent.reshape(z.shape[1:]), z.shape)
        return push(wide).reshape(z.shape[0], dims)

    columns = jax.lax.map(column, jnp.eye(dims, dtype=z.dtype), batch_size=min(dims, 16))
    return value, jnp.transpose(columns, (1, 2, 0))


class Determinant(NamedTuple):
    """Determinants and condition numbers of matrices `[B, d, d]`, `[B]` each.

    Attributes:
        log: logarithm of the absolute determinant.
        sign: sign of the determinant.
        condition: the product of the Frobenius norms of a matrix and its inverse: an upper bound on
            the ratio of the extreme singular values.
    """

    log: Array
    sign: Array
    condition: Array


def determinant(matrices: Array) -> Determinant:
    """Determinants by Gauss-Jordan elimination with row pivots.

    Written out because LAPACK deadlocks with several CPU devices (jaxlib 0.10: a batched `slogdet`
    of 64x64 matrices never returns).
    """
    b, d, _ = matrices.shape
    identity = jnp.broadcast_to(jnp.eye(d, dtype=matrices.dtype), matrices.shape)
    both = jnp.concatenate([matrices, identity], axis=2)

    def eliminate(k: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        both, log, sign = carry
        column = jax.lax.dynamic_index_in_dim(both, k, 2, keepdims=False)
        rows = jnp.arange(d)
        pivot = jnp.argmax(jnp.where(rows >= k, jnp.abs(column), -1.0), axis=1)
        # Swap row k and the pivot row.
        order = jnp.where(rows == k, pivot[:, None], jnp.where(rows == pivot[:, None], k, rows))
        both = jnp.take_along_axis(both, order[:, :, None], 1)
        top = jax.lax.dynamic_index_in_dim(both, k, 1, keepdims=False)
        value = jnp.take_along_axis(column, pivot[:, None], 1)[:, 0]
        top = top / value[:, None]
        column = jax.lax.dynamic_index_in_dim(both, k, 2, keepdims=True)
        rest = both - column * top[:, None, :]
        both = jnp.where((rows == k)[:, None], top[:, None, :], rest)
        swapped = jnp.where(pivot == k, 1.0, -1.0).astype(value.dtype)
        return both, log + jnp.log(jnp.abs(value)), sign * jnp.sign(value) * swapped

    start = (both, jnp.zeros(b, matrices.dtype), jnp.ones(b, matrices.dtype))
    both, log, sign = jax.lax.fori_loop(0, d, eliminate, start)
    size, inverse = (jnp.sqrt(jnp.square(a).sum((1, 2))) for a in (matrices, both[:, :, d:]))
    return Determinant(log, sign, size * inverse)


def log_density(jump: Jump, z: Array, plan: Array) -> Array:
    """`log N(E(z); 0, I) + sum_k log |det J_k|`, `[B]`, nats, where E is the jumps along `plan`.

    Args:
        jump: one step of the map.
        z: latents at `plan[0]`, `[B, ...]`.
        plan: gammas, `[N + 1]`, data first.
    """

    def step(carry: tuple[Array, Array], ends: tuple[Array, Array]) -> tuple[tuple, None]:
        z, volume = carry
        z, jacobian = _with_jacobian(lambda z: jump(z, *ends), z)
        return (z, volume + determinant(jacobian).log), None

    start = (z, jnp.zeros(z.shape[0], z.dtype))
    (end, volume), _ = jax.lax.scan(step, start, (plan[:-1], plan[1:]))
    square = jnp.square(end).sum(axis=tuple(range(1, z.ndim)))
    dims = math.prod(z.shape[1:])
    return volume - 0.5 * (square + dims * math.log(2.0 * math.pi))


def there_and_back(jump: Jump, z: Array, plan: Array) -> tuple[Array, Array, Array]:
    """Maps `z` to noise along `plan` and back again.

    Returns:
        The latents after the way back, `[B, ...]`, and the sign and the condition number of the
        Jacobian of every jump to noise, `[N, B]` each.
    """

    def there(z: Array, ends: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        z, jacobian = _with_jacobian(lambda z: jump(z, *ends), z)
        det = determinant(jacobian)
        return z, (det.sign, det.condition)

    def back(z: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        return jump(z, *ends), None

    end, (sign, condition) = jax.lax.scan(there, z, (plan[:-1], plan[1:]))
    start, _ = jax.lax.scan(back, end, (plan[:0:-1], plan[-2::-1]))
    return start, sign, condition
