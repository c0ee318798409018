"""Gaussian data and their optimal denoiser: everything about them is known in closed form."""

import itertools
import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.model import Model
from diffusion_jax.process.parameterization import from_pred
from diffusion_jax.types import Noise, Pred, alpha, expand, sigma


@dataclass(frozen=True)
class OptimalNetwork:
    """Predicts E[x | z] for x ~ N(mean, diag(variance)), in any parameterization."""

    mean: tuple
    variance: tuple
    prediction: str = "eps"
    wrong: float = 0.0  # added to the noise prediction: a network that is not optimal

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, keys=None):
        g = expand(gamma, z)
        a, s = alpha(g), sigma(g)
        mean, variance = jnp.asarray(self.mean), jnp.asarray(self.variance)
        eps = s * (z - a * mean) / (a**2 * variance + s**2) + self.wrong
        return from_pred(self.prediction, Pred((z - s * eps) / a, eps), gamma)


@dataclass(frozen=True)
class Gaussian:
    """x ~ N(mean, diag(variance)) in a few dimensions, as `[B, d]` arrays."""

    mean: tuple = (0.3, -0.5)
    variance: tuple = (0.4, 1.7)

    def model(self, schedule="linear(gamma_min=-6.0, gamma_max=4.0)", prediction="eps", wrong=0.0):
        return Model(
            network=OptimalNetwork(self.mean, self.variance, prediction, wrong),
            schedule=registry.build("schedules", schedule),
            decoder=registry.build("decoders", "gaussian()"),
            prediction=prediction,
        )

    def entropy(self):
        return 0.5 * sum(math.log(2 * math.pi * math.e * v) for v in self.variance)

    def best_bound(self, gamma_0, gamma_1):
        """Entropy, plus what the two ends of the diffusion cost even with a perfect network."""
        a2, s2 = 1 / (1 + math.exp(gamma_1)), 1 / (1 + math.exp(-gamma_1))
        total = self.entropy()
        for m, v in zip(self.mean, self.variance, strict=True):
            end = a2 * v + s2
            total += 0.5 * (end + a2 * m * m - 1 - math.log(end))
            total += 0.5 * math.log1p(math.exp(gamma_0) / v)
        return total

    def quadrature(self, times, weights):
        """Nodes that average *exactly* over data and noise whatever is quadratic in them.

        Returns `x, Noise, weights`: three Gauss-Hermite nodes per Gaussian, the given nodes in t.
        """
        d = len(self.mean)
        nodes, w = np.polynomial.hermite_e.hermegauss(3)
        w = w / w.sum()
        grid = np.array(list(itertools.product(nodes, repeat=2 * d)))
        gw = np.array([math.prod(c) for c in itertools.product(w, repeat=2 * d)])
        n = len(times)
        grid, gw = np.tile(grid, (n, 1)), np.tile(gw, n)
        t = np.repeat(times, len(grid) // n)
        gw = gw * np.repeat(weights, len(grid) // n)
        x = np.asarray(self.mean) + np.sqrt(self.variance) * grid[:, :d]
        eps = jnp.asarray(grid[:, d:])
        # The reconstruction needs data and eps_0 independent, not eps and eps_0: reuse the nodes.
        return jnp.asarray(x), Noise(jnp.asarray(t), eps, eps), gw


def legendre(n):
    """Gauss-Legendre nodes and weights on [0, 1]."""
    t, w = np.polynomial.legendre.leggauss(n)
    return 0.5 * (t + 1), 0.5 * w
