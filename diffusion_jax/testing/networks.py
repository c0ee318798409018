"""Contracts of networks, guides and features."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.testing._tools import SHAPE, close, images, moved, must
from diffusion_jax.types import Array, Cond


def network(plugin: Any) -> None:
    """The result has the shape and type of `z`; examples are independent."""
    z = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    gamma = jnp.asarray([-3.0, 1.0])
    variables = jax.jit(lambda key: plugin.init(key, z, gamma, {}))(jax.random.key(1))
    params = variables.get("params", {})  # missing if the network has no weights
    weights = {"params": moved(params)}
    run = jax.jit(lambda z, gamma: plugin.apply(weights, z, gamma, {}))
    out = run(z, gamma)
    must(out.shape == z.shape, f"it returned shape {out.shape} for z of {z.shape}")
    must(out.dtype == z.dtype, f"it returned {out.dtype} for z of {z.dtype}")
    other = run(z.at[1].set(0.0), gamma)
    must(close(out[0], other[0], 1e-4), "an example depends on the others")
    unchanged = close(out, run(z, gamma + 2.0), 1e-6)
    must(not params or not unchanged, "the result does not depend on gamma")


def guide(plugin: Any, cond: Cond | None = None) -> None:
    """Loss and metrics per example; `log_prob` has a finite gradient; examples are independent.

    Args:
        plugin: the guide.
        cond: conditions of four images, in addition to their labels.
    """
    z, gamma = jax.random.normal(jax.random.key(0), (4, *SHAPE)), jnp.asarray([-3.0, 0.0, 1.0, 4.0])
    params = jax.jit(lambda key: plugin.init(key, SHAPE))(jax.random.key(1))
    must("network" in params, "init(key, shape) does not give {'network': ...}")
    params, keys = moved(params), jax.random.split(jax.random.key(2), 4)
    loss = jax.jit(plugin.loss)(params, z, gamma, {"label": jnp.arange(4), **(cond or {})}, keys)
    missing = {"loss", *plugin.metrics} - set(loss)
    must(not missing, f"loss(...) does not return {', '.join(sorted(missing))}")
    for name, values in loss.items():
        must(values.shape == (4,), f"{name} has shape {values.shape} for 4 examples")
        must(bool(jnp.isfinite(values).all()), f"{name} is not finite")
    target = {"label": jnp.asarray([0, 1, 1, 0]), "text": "a"}

    def second(z: Array) -> tuple[Array, Array]:
        scores = plugin.log_prob(params, z, gamma, target)
        return scores[1], scores

    gradient, values = jax.jit(jax.grad(second, has_aux=True))(z)
    must(values.shape == (4,), f"log_prob has shape {values.shape} for 4 examples")
    must(bool(jnp.isfinite(gradient).all()), "the gradient of log_prob is not finite")
    must(float(jnp.abs(gradient[1]).max()) > 0.0, "log_prob does not depend on z")
    others = gradient[jnp.asarray([0, 2, 3])]
    must(float(jnp.abs(others).max()) == 0.0, "an example depends on the others")


def features(plugin: Any) -> None:
    """Features of integer images are `[B, size]` float32; the digest is a SHA-256."""
    batch = images(4, (32, 32, 3))
    run = jax.jit(plugin.apply)
    out = run(plugin.params, batch)
    must(out.shape == (4, plugin.size), f"apply returned {out.shape}, not (4, {plugin.size})")
    must(out.dtype == jnp.float32, f"features are {out.dtype}, not float32")
    must(bool(jnp.isfinite(out).all()), "a feature is not finite")
    other = run(plugin.params, batch.at[1].set(0))
    must(close(other[0], out[0], 1e-3), "features depend on the other images in the batch")
    must(not np.array_equal(other[1], out[1]), "features do not depend on the image")
    is_digest = isinstance(plugin.digest, str) and len(plugin.digest) == 64
    must(is_digest, "digest is not a SHA-256 in hexadecimal")
    must(bool(plugin.name) and "/" not in plugin.name, "name must be usable in file names")
