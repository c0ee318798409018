"""Change of variables along a chain of maps, with whole Jacobians."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.types import Array

# `(z [B, ...], gamma, end) -> z_end`, scalars; examples do not see one another.
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


def log_density(jump: Jump, z: Array, plan: Array) -> Array:
    """`log N(E(z); 0, I) + sum_k log |det J_k|`, `[B]`, nats, E the jumps along `plan`.

    Args:
        jump: a step of the map.
        z: latents at `plan[0]`, `[B, ...]`.
        plan: gammas, `[N + 1]`, data first.
    """

    def step(carry: tuple[Array, Array], ends: tuple[Array, Array]) -> tuple[tuple, None]:
        z, volume = carry
        z, jacobian = _with_jacobian(lambda z: jump(z, *ends), z)
        return (z, volume + jnp.linalg.slogdet(jacobian)[1]), None

    start = (z, jnp.zeros(z.shape[0], z.dtype))
    (end, volume), _ = jax.lax.scan(step, start, (plan[:-1], plan[1:]))
    square = jnp.square(end).sum(axis=tuple(range(1, z.ndim)))
    dims = math.prod(z.shape[1:])
    return volume - 0.5 * (square + dims * math.log(2.0 * math.pi))


def there_and_back(jump: Jump, z: Array, plan: Array) -> tuple[Array, Array, Array]:
    """`z` after the jumps along `plan` and back, and what the Jacobians on the way there are like.

    Returns:
        The latents after the way back, `[B, ...]`; sign and condition of every Jacobian, `[N, B]`.
    """

    def there(z: Array, ends: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        z, jacobian = _with_jacobian(lambda z: jump(z, *ends), z)
        return z, (jnp.linalg.slogdet(jacobian)[0], jnp.linalg.cond(jacobian))

    def back(z: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        return jump(z, *ends), None

    end, (sign, condition) = jax.lax.scan(there, z, (plan[:-1], plan[1:]))
    start, _ = jax.lax.scan(back, end, (plan[:0:-1], plan[-2::-1]))
    return start, sign, condition
