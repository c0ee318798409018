"""A model of Gaussian data with every expectation in closed form, for known-answer tests.

Data are `x ~ N(0, v)` in one dimension; the encoder is `x_t = f(gamma) x`; the denoiser is linear.
Expectations over (x, eps) of the quadratic losses are exact by three-point Gauss-Hermite sums.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.model import Model
from diffusion_jax.types import Noise, expand

V = 0.7
ENDS = {"gamma_min": -10.0, "gamma_max": 10.0}
ENTROPY = 0.5 * math.log(2.0 * math.pi * math.e * V)


@dataclass(frozen=True)
class Scaled:
    """The encoder `x_t = f(gamma) x`."""

    f: Callable
    mean_coefficient: float = 0.0

    def init(self, key, shape):
        return {}

    def shift(self, params, x, gamma, cond, keys):
        return (self.f(expand(gamma, x)) - 1.0) * x

    def __call__(self, params, x, gamma, cond, keys):
        g = jnp.broadcast_to(expand(gamma, x), x.shape)
        f, df = jax.jvp(self.f, (g,), (jnp.ones_like(g),))
        return f * x, df * x


@dataclass(frozen=True)
class Linear:
    """The optimal x-prediction for `Scaled(f, c)`: `E[x_t + r | z] / (1 + c sigma^2)`."""

    f: Callable
    mean_coefficient: float = 0.0
    v: float = V

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, keys=None):
        g = expand(gamma, z)
        f, df = jax.jvp(self.f, (g,), (jnp.ones_like(g),))
        a2, s2 = jax.nn.sigmoid(-g), jax.nn.sigmoid(g)
        x = jnp.sqrt(a2) * f * self.v / (a2 * f * f * self.v + s2) * z  # E[x | z]
        return (f - df) * x / (1.0 + self.mean_coefficient * s2)


def identity(gamma):
    return jnp.ones_like(gamma)


def alpha2(gamma):
    return jax.nn.sigmoid(-gamma)


def half(gamma):
    """What an encoder with y = x / 2 does."""
    return 1.0 - 0.5 * jax.nn.sigmoid(gamma)


def model(f=identity, c=0.0, network_c=None, schedule="linear()", network=None):
    """`network_c` other than `c` makes the model's correction wrong for its network."""
    return Model(
        network=network or Linear(f, c if network_c is None else network_c),
        schedule=registry.build("schedules", schedule, **ENDS),
        decoder=registry.build("decoders", "gaussian()"),
        prediction="x",
        encoder=Scaled(f, c),
    )


def exact_mean(loss, t):
    """`E[loss]` over x, eps, eps_0 at each time, `loss(x, noise) -> [N]` quadratic in all."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    t, i, j = (a.ravel() for a in np.meshgrid(t, range(3), range(3), indexing="ij"))
    shape = (-1, 1, 1, 1)
    x = jnp.asarray(math.sqrt(V) * nodes[i]).reshape(shape)
    eps = jnp.asarray(nodes[j]).reshape(shape)
    values = loss(x, Noise(jnp.asarray(t), eps, eps))
    return np.asarray(values * weights[i] * weights[j]).reshape(-1, 9).sum(1)


def bound(m, params, objective="continuous()", points=400):
    """The bound's expectation over data, noise and time."""
    u, w = np.polynomial.legendre.leggauss(points)
    if objective.startswith("discrete"):
        steps = int(objective[objective.index("=") + 1 : -1])
        u, w = 2 * (np.arange(steps) + 0.5) / steps - 1, np.full(steps, 2.0 / steps)
    built = registry.build("objectives", objective)
    means = exact_mean(lambda x, noise: built(m, params, x, {}, noise).total, 0.5 * (u + 1))
    return float(np.sum(0.5 * w * means))
