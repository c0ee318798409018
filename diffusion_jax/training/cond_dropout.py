"""Which of its captions a step reads, and what it hides of what a network is told."""

import jax
import jax.numpy as jnp

from diffusion_jax import rng
from diffusion_jax.types import Array, expand


def wording(root: Array, step: Array, text: Array) -> Array:
    """Which of the wordings `[B, M, ...]` of each example a step reads, `[B]`."""
    n, wordings = text.shape[:2]
    return jax.random.randint(rng.stream(root, "wording", step), (n,), 0, wordings)


def one_wording(root: Array, step: Array, text: Array, dropout: float) -> Array:
    """One of the wordings `[B, M, L]` (or `[B, M, L, W]`) of each example, or none (zeros)."""
    which = wording(root, step, text)
    one = jnp.take_along_axis(text, expand(which, text), axis=1)[:, 0]
    return zeroed(root, step, "text_dropout", one, dropout)


def zeroed(root: Array, step: Array, name: str, told: Array, dropout: float) -> Array:
    """`told` `[B, ...]` with zeros, which mean none, for examples drawn with this probability."""
    drop = jax.random.bernoulli(rng.stream(root, name, step), dropout, told.shape[:1])
    return jnp.where(expand(drop, told), 0, told)
