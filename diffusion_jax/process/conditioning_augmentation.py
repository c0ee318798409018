"""Conditioning augmentation: noise on the image or frames that a later stage of a cascade receives.

A stage trained only on real low-resolution images copies the errors of generated ones. Training
therefore adds noise to some of them, and gives the network its level (Ho et al. 2022, "Cascaded
diffusion models", section 4). The others stay clean; likelihoods and files use clean images only.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax import rng
from diffusion_jax.types import Array, Cond, diffuse, expand


@dataclass(frozen=True)
class LowNoise:
    """The distribution of the noise level in training.

    Attributes:
        clean: probability of no noise.
        gamma_min: least gamma; also used for "no noise", because noise this small hides no level.
        gamma_max: greatest gamma.
    """

    clean: float
    gamma_min: float
    gamma_max: float

    def __call__(self, key: Array, cond: Cond) -> Cond:
        """The condition with noise added to some of its `"low"` images; unchanged without them.

        Args:
            key: PRNG key of the step.
            cond: the condition.
        """
        if "low" not in cond:
            return cond
        n = len(cond["low"])
        level = jax.random.uniform(rng.stream(key, "level"), (n,))
        gamma = self.gamma_min + (self.gamma_max - self.gamma_min) * level
        clean = jax.random.bernoulli(rng.stream(key, "clean"), self.clean, (n,))
        noisy = noised(cond, gamma, rng.per_example(rng.stream(key, "eps"), n))
        low = jnp.where(expand(clean, cond["low"]), cond["low"], noisy["low"])
        return noisy | {"low": low, "low_gamma": jnp.where(clean, self.gamma_min, gamma)}


def noised(cond: Cond, gamma: Array, key: Array) -> Cond:
    """The condition with its `"low"` images at noise level `gamma`, which it includes.

    Args:
        cond: the condition, with clean images `"low"`.
        gamma: `-log SNR`, `[B]`.
        key: one PRNG key, or one per example.
    """
    eps = rng.normal(key, cond["low"].shape, cond["low"].dtype)
    return {**cond, "low": diffuse(cond["low"], gamma, eps), "low_gamma": gamma}
