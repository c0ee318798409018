"""Randomness without state: every draw is `fold_in(fold_in(root, stream), step)`.

A run can resume bit for bit without any random state in its checkpoints.
"""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diffusion_jax.types import Array, Noise


def stream(root: Array, name: str, step: int | Array = 0) -> Array:
    """A key for the draws called `name` at `step`, the training step or any counter.

    Names are hashed with CRC-32, so the key is the same in every process. If `root` has one key per
    example, so has the result.
    """

    def one(key: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), step)

    return jax.vmap(one)(root) if _per_example(root) else one(root)


def _per_example(key: Array) -> bool:
    """Whether `key` is one key per example rather than a single key (typed, or two raw words)."""
    return jnp.ndim(key) > (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1)


def keyed(key: Array, index: Array) -> Array:
    """The keys of the examples with numbers `index` `[B]`, which do not depend on the batch."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Standard normal numbers of `shape` `[B, ...]`.

    Args:
        key: a single key, or one key per example `[B]`: then an example's numbers do not depend on
            the rest of the batch.
        shape: shape of the result.
        dtype: type of the result.
    """
    if not _per_example(key):
        return jax.random.normal(key, shape, dtype)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], dtype))(key)


def split(key: Array, n: int = 2) -> Array:
    """`jax.random.split` for a single key or for one key per example: `[n]` or `[n, B]`."""
    if not _per_example(key):
        return jax.random.split(key, n)
    return jax.vmap(lambda k: jax.random.split(k, n), out_axes=1)(key)


def low_discrepancy_times(key: Array, n: int) -> Float[Array, " {n}"]:
    """`n` times in [0, 1), one in each stratum of width 1/n, sharing a single offset.

    Unbiased for the batch mean and much less noisy than independent times (Kingma et al. 2021,
    appendix I.1). The times are dependent: never estimate a standard error from their spread.

    Args:
        n: the *global* batch size.
    """
    # arange(n)/n, not arange(0, 1, 1/n): the latter has n + 1 entries for some n.
    return (jax.random.uniform(key) + jnp.arange(n) / n) % 1.0


def per_example(key: Array, n: int) -> Array:
    """One key per example, `[n]`, so that draws do not depend on how a batch is split."""
    return keyed(key, jnp.arange(n))


def draw_noise(
    key: Array, x: Array, dropout: bool = False, shape: tuple[int, ...] | None = None
) -> Noise:
    """Draws all the noise that one evaluation of a bound needs.

    Args:
        x: data, `[B, ...]`; only its shape and dtype are used.
        dropout: whether to draw dropout keys (training) or none (evaluation).
        shape: shape of one example of what diffuses; None for that of `x`.

    Returns:
        `Noise` with low-discrepancy times over the whole batch.
    """
    k_t, k_eps, k_eps0, k_drop = jax.random.split(key, 4)
    n = x.shape[0]
    whole = (n, *(x.shape[1:] if shape is None else shape))
    return Noise(
        t=low_discrepancy_times(k_t, n),
        eps=jax.random.normal(k_eps, whole, x.dtype),
        eps_0=jax.random.normal(k_eps0, whole, x.dtype),
        dropout=per_example(k_drop, n) if dropout else None,
        latent=per_example(stream(key, "latent"), n),
    )
