"""Weights for tests: none is zero, and nothing is compiled to draw them."""

import jax
import jax.numpy as jnp
import numpy as np


def drawn(tree, scale, seed=0):
    """Normal numbers in the shapes of a tree."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(scale * rng.standard_normal(a.shape), a.dtype), tree)


def moved(tree, by, seed=1):
    """Weights away from where they start, which for many is zero."""
    return jax.tree.map(jnp.add, tree, drawn(tree, by, seed))
