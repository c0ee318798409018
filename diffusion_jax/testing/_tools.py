"""Helpers of contract tests: assertions, and a model with known predictions."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax import registry
from diffusion_jax.model import Model
from diffusion_jax.types import Array, Cond, Params, Pred, alpha, expand, sigma

SHAPE = (8, 8, 3)
MEAN, VARIANCE = 0.7, 0.3  # of the Gaussian data for samplers


def must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def close(a: Array, b: Array, tolerance: float) -> bool:
    return bool(jnp.allclose(a, b, rtol=tolerance, atol=tolerance))


def null(cond: Cond) -> Cond:
    return {**cond, "label": jnp.full_like(cond["label"], 2)}


def gaussian(z: Array, gamma: Array, label: Array | None = None) -> Pred:
    """The optimal denoiser of a Gaussian, whose mean depends on the class."""
    g = expand(gamma, z)
    a, s = alpha(g), sigma(g)
    mean = MEAN if label is None else MEAN - 0.5 * expand(label.astype(z.dtype), z)
    x = mean + a * VARIANCE / (a**2 * VARIANCE + s**2) * (z - a * mean)
    return Pred(x, (z - a * x) / s)


def images(n: int, shape: tuple[int, int, int] = SHAPE, levels: int = 256) -> Array:
    """Random images, uint8 `[n, H, W, C]`."""
    return jax.random.randint(jax.random.key(7), (n, *shape), 0, levels).astype(jnp.uint8)


def moved(params: Params) -> Params:
    """Perturbs initial weights, because layers of zeros would make the tests vacuous."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noisy = [a + 0.05 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, noisy)


@dataclass(frozen=True)
class Exact:
    """A network that returns the exact noise prediction for a Gaussian, times one weight."""

    def init(self, key: Array, z: Array, gamma: Array, cond: Cond) -> Params:
        """The weight is 1."""
        return {"params": {"w": jnp.ones(())}}

    def apply(
        self, variables: Params, z: Array, gamma: Array, cond: Cond, keys: Any = None
    ) -> Array:
        """The predicted noise."""
        return variables["params"]["w"] * gaussian(z, gamma).eps


def model() -> tuple[Model, Params]:
    """A model of images with 256 levels, and its weights."""
    ends = {"gamma_min": -8.0, "gamma_max": 5.0}
    built = Model(
        network=Exact(),
        schedule=registry.build("schedules", "linear()", **ends),
        decoder=registry.build("decoders", "categorical()", levels=256),
        prediction="eps",
    )
    return built, built.init(jax.random.key(0), SHAPE)
