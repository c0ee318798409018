"""The paths of flows between data and noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.types import Array, alpha, sigma


@dataclass(frozen=True)
class Flow:
    """A path `x_t = A x + S eps` with `t` from data (0) to noise (1).

    Attributes:
        time: `gamma -> t`.
        gamma: `t -> gamma`.
        scale: `gamma -> x_t / z`.
        read: `(u, x_t, t) -> (x, eps)`, for the velocity u, the derivative of `x_t` by t.
    """

    time: Callable[[Array], Array]
    gamma: Callable[[float], float]
    scale: Callable[[Array], Array]
    read: Callable[[Array, Array, Array], tuple[Array, Array]]


def _read_cosine(u: Array, x_t: Array, t: Array) -> tuple[Array, Array]:
    angle, v = 0.5 * math.pi * t, u / (0.5 * math.pi)
    c, s = jnp.cos(angle), jnp.sin(angle)
    return c * x_t - s * v, s * x_t + c * v


PATHS: dict[str, Flow] = {
    "rectified": Flow(
        time=lambda gamma: jax.nn.sigmoid(0.5 * gamma),
        gamma=lambda t: 2 * math.log(t / (1 - t)),
        scale=lambda gamma: 1 / (alpha(gamma) + sigma(gamma)),
        read=lambda u, x_t, t: (x_t - t * u, x_t + (1 - t) * u),
    ),
    "cosine": Flow(
        time=lambda gamma: jnp.arctan(jnp.exp(0.5 * gamma)) * (2 / math.pi),
        gamma=lambda t: 2 * math.log(math.tan(0.5 * math.pi * t)),
        scale=jnp.ones_like,
        read=_read_cosine,
    ),
}
