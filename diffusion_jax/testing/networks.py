"""Contracts of networks, guides and features."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.testing._tools import SHAPE, close, images, moved, must
from diffusion_jax.types import Array, Cond


def network(plugin: Any) -> None:
    """Shape and type of `z`; examples do not see one another."""
    z = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    gamma = jnp.asarray([-3.0, 1.0])
    made = jax.jit(lambda key: plugin.init(key, z, gamma, {}))(jax.random.key(1))
    params = made.get("params", {})  # a network without weights has none
    weights = {"params": moved(params)}
    run = jax.jit(lambda z, gamma: plugin.apply(weights, z, gamma, {}))
    out = run(z, gamma)
    must(out.shape == z.shape, f"it returned shape {out.shape} for z of {z.shape}")
    must(out.dtype == z.dtype, f"it returned {out.dtype} for z of {z.dtype}")
    other = run(z.at[1].set(0.0), gamma)
    must(close(out[0], other[0], 1e-4), "examples see one another")
    still = close(out, run(z, gamma + 2.0), 1e-6)
    must(not params or not still, "gamma does not matter")


def guide(plugin: Any, told: Cond | None = None) -> None:
    """Loss and metrics per example; `log_prob` has a finite gradient; examples are independent.

    `told` is what four images are told beside their labels.
    """
    z, gamma = jax.random.normal(jax.random.key(0), (4, *SHAPE)), jnp.asarray([-3.0, 0.0, 1.0, 4.0])
    params = jax.jit(lambda key: plugin.init(key, SHAPE))(jax.random.key(1))
    must("network" in params, "init(key, shape) does not give {'network': ...}")
    params, keys = moved(params), jax.random.split(jax.random.key(2), 4)
    found = jax.jit(plugin.loss)(params, z, gamma, {"label": jnp.arange(4), **(told or {})}, keys)
    missing = {"loss", *plugin.metrics} - set(found)
    must(not missing, f"loss(...) does not give {', '.join(sorted(missing))}")
    for name, values in found.items():
        must(values.shape == (4,), f"{name} has shape {values.shape} for 4 examples")
        must(bool(jnp.isfinite(values).all()), f"{name} is not finite")
    cond = {"label": jnp.asarray([0, 1, 1, 0]), "text": "a"}

    def second(z: Array) -> tuple[Array, Array]:
        found = plugin.log_prob(params, z, gamma, cond)
        return found[1], found

    pull, values = jax.jit(jax.grad(second, has_aux=True))(z)
    must(values.shape == (4,), f"log_prob has shape {values.shape} for 4 examples")
    must(bool(jnp.isfinite(pull).all()), "the gradient of log_prob is not finite")
    must(float(jnp.abs(pull[1]).max()) > 0.0, "log_prob does not depend on z")
    must(float(jnp.abs(pull[jnp.asarray([0, 2, 3])]).max()) == 0.0, "examples see one another")


def features(plugin: Any) -> None:
    """`[B, size]` float32 of integer images; the digest is one of all that decides them."""
    batch = images(4, (32, 32, 3))
    run = jax.jit(plugin.apply)
    found = run(plugin.params, batch)
    must(found.shape == (4, plugin.size), f"apply gave {found.shape}, not (4, {plugin.size})")
    must(found.dtype == jnp.float32, f"features are {found.dtype}, not float32")
    must(bool(jnp.isfinite(found).all()), "a feature is not finite")
    other = run(plugin.params, batch.at[1].set(0))
    must(close(other[0], found[0], 1e-3), "images see one another")
    must(not np.array_equal(other[1], found[1]), "the image does not matter")
    told = isinstance(plugin.digest, str) and len(plugin.digest) == 64
    must(told, "digest is not a SHA-256 in hexadecimal")
    must(bool(plugin.name) and "/" not in plugin.name, "name is part of the names of files")
