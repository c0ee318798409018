"""Noise in the smaller image, or the first frames, that a later stage of a cascade is given.

A stage that has only seen real small images repeats the errors of drawn ones. Training therefore
hides some of them behind noise, and tells the network how much (Ho et al. 2022, "Cascaded diffusion
models", section 4). Half of the time the image is clean: likelihoods and files use nothing else.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax import rng
from diffusion_jax.types import Array, Cond, diffuse, expand


@dataclass(frozen=True)
class LowNoise:
    """How much noise training adds.

    Attributes:
        clean: how often there is none.
        gamma_min: the least; stands for "no noise" too, as there it hides no level.
        gamma_max: the most.
    """

    clean: float
    gamma_min: float
    gamma_max: float

    def __call__(self, key: Array, cond: Cond) -> Cond:
        """The condition with noise in some of its smaller images; unchanged if it has none.

        Args:
            key: of the step.
            cond: the condition.
        """
        if "low" not in cond:
            return cond
        n = len(cond["low"])
        level = jax.random.uniform(rng.stream(key, "level"), (n,))
        gamma = self.gamma_min + (self.gamma_max - self.gamma_min) * level
        clean = jax.random.bernoulli(rng.stream(key, "clean"), self.clean, (n,))
        seen = noised(cond, gamma, rng.per_example(rng.stream(key, "eps"), n))
        low = jnp.where(expand(clean, cond["low"]), cond["low"], seen["low"])
        return seen | {"low": low, "low_gamma": jnp.where(clean, self.gamma_min, gamma)}


def noised(cond: Cond, gamma: Array, key: Array) -> Cond:
    """The condition with its smaller images at noise level `gamma` `[B]`, which is told.

    Args:
        cond: with `"low"`, clean.
        gamma: `-log SNR`.
        key: one key, or one per example.
    """
    eps = rng.normal(key, cond["low"].shape, cond["low"].dtype)
    return {**cond, "low": diffuse(cond["low"], gamma, eps), "low_gamma": gamma}
