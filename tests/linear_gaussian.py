"""A prior and a decoder that are exact: vectors of which images are linear, with normal noise.

In deviations a vector is `N(MEAN[letter], SPREAD)` given the text, a letter; in model space an
image is `N(MAP vector, NOISE)`, and `N(0, TOTAL)` where it is told no vector, which is then normal.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.vectors import SPAN
from diffusion_jax.types import alpha, expand, sigma

MEAN = {"a": (0.6, -0.3, 0.1), "b": (-0.5, 0.2, 0.4)}
SPREAD, NOISE = 0.5, 0.04  # variances
MAP = np.asarray([[0.4, -0.2, 0.1], [0.3, 0.5, 0.0]])  # of two pixels
TOTAL = MAP @ MAP.T + NOISE * np.eye(2)  # of an image of whose vector nothing is known but its law


@dataclass(frozen=True)
class Exact:
    """`E[eps | z]` of a vector given a text, or of an image given a vector."""

    vector: bool
    text: Any = None

    def init(self, key, z, gamma, cond):
        return {"params": {"unused": jnp.zeros(1)}}

    def apply(self, variables, z, gamma, cond, keys=None):
        if self.vector:
            letter = self.text.pieces("a")[0][0]
            is_a = cond["text"][:, 1:2] == letter
            mean = jnp.where(is_a, jnp.asarray(MEAN["a"]), jnp.asarray(MEAN["b"])) / SPAN
            variance = SPREAD / SPAN**2
        else:
            mean, variance = cond["embedding"][:, :-1] @ MAP.T, NOISE
        g = expand(gamma, z)
        a, s = alpha(g), sigma(g)
        if not self.vector:
            total = a[..., 0] ** 2 * TOTAL + s[..., 0] ** 2 * jnp.eye(2)
            none = jnp.linalg.solve(total, z.reshape(-1, 2, 1)).reshape(z.shape)
            none, there = s * none, expand(cond["embedding"][:, -1], z)
            return there * _eps(z, mean, variance, a, s) + (1 - there) * none
        return _eps(z, mean, variance, a, s)


def _eps(z, mean, variance, a, s):
    return s * (z - a * mean.reshape(z.shape)) / (a**2 * variance + s**2)


def make(vector: bool, text: Any = None):
    return Exact(vector, text)
