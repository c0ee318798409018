"""Selects the caption that a training step uses, and drops conditions at random."""

import jax
import jax.numpy as jnp

from diffusion_jax import rng
from diffusion_jax.types import Array, expand


def wording(root: Array, step: Array, text: Array) -> Array:
    """Index `[B]` of the wording to use in this step, out of each example's `[B, M, ...]`."""
    n, wordings = text.shape[:2]
    return jax.random.randint(rng.stream(root, "wording", step), (n,), 0, wordings)


def one_wording(root: Array, step: Array, text: Array, dropout: float) -> Array:
    """Picks one of each example's wordings `[B, M, L]` or `[B, M, L, W]`, or zeros for no text."""
    which = wording(root, step, text)
    one = jnp.take_along_axis(text, expand(which, text), axis=1)[:, 0]
    return zeroed(root, step, "text_dropout", one, dropout)


def zeroed(root: Array, step: Array, name: str, cond: Array, dropout: float) -> Array:
    """`cond` `[B, ...]`, set to zero (no condition) in each example with probability `dropout`."""
    drop = jax.random.bernoulli(rng.stream(root, name, step), dropout, cond.shape[:1])
    return jnp.where(expand(drop, cond), 0, cond)
