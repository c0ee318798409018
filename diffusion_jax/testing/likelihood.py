"""Contracts of objectives, weightings and likelihoods."""

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax import registry, rng
from diffusion_jax.likelihood.objectives.base import is_shape_invariant
from diffusion_jax.testing._tools import close, images, model, must


def objective(plugin: Any) -> None:
    """One value of each term per example, finite gradients, and correct declarations."""
    built, params = model()
    x = built.decoder.encode(images(64))
    noise = rng.draw_noise(jax.random.key(0), x)
    run = jax.jit(lambda params, x: plugin(built, params, x, {}, noise))
    terms = run(params, x)
    for name, values in terms._asdict().items():
        fits = jnp.shape(values) == (64,) or (name == "auxiliary" and jnp.ndim(values) == 0)
        must(fits, f"{name} has shape {jnp.shape(values)}, not (64,)")
        must(bool(jnp.isfinite(values).all()), f"{name} is not finite")
    must(bool((terms.prior >= -1e-4).all()), "the prior term (a divergence) is negative")
    must(bool((terms.diffusion >= -1e-4).all()), "the diffusion term is negative")
    other = run(params, x.at[1].set(0.0))
    must(close(other.total[2], terms.total[2], 1e-4), "an example depends on the others")
    slope = jax.grad(lambda p: run(p, x).total.mean())(params)
    finite = [bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(slope)]
    must(all(finite), "a gradient is not finite")
    if not is_shape_invariant(plugin):
        return
    cosine = registry.build("schedules", "cosine()", gamma_min=-8.0, gamma_max=5.0)
    bent = dataclasses.replace(built, schedule=cosine)
    gamma, slope = jnp.linspace(-7.0, 4.0, 64), jnp.full(64, 13.0)
    straight, curved = (plugin.at(m, params, x, {}, noise, gamma, slope) for m in (built, bent))
    same = close(straight.diffusion, curved.diffusion, 1e-4)
    must(same, "it declares shape_invariant, but `at` depends on the schedule")
    twice = plugin.at(built, params, x, {}, noise, gamma, 2.0 * slope)
    same = close(twice.diffusion, 2.0 * straight.diffusion, 1e-4)
    must(same, "it declares shape_invariant, but the term is not proportional to the slope")


def weighting(plugin: Any) -> None:
    """Elementwise and nonnegative; the declarations `monotone` and `of_gamma` are correct."""
    gamma = jnp.linspace(-12.0, 8.0, 101)
    values = jax.jit(plugin)(gamma, jnp.ones(101))
    must(values.shape == gamma.shape, f"it returned {values.shape} for gamma of {gamma.shape}")
    must(bool((jnp.isfinite(values) & (values >= 0.0)).all()), "a weight is negative or not finite")
    must(close(plugin(gamma[3:4], jnp.ones(1)), values[3:4], 1e-5), "it is not elementwise")
    if plugin.of_gamma:
        steep = plugin(gamma, jnp.full(101, 7.0))
        must(close(steep, values, 1e-6), "it declares of_gamma, but depends on the slope")
    if plugin.monotone:
        rises = bool((jnp.diff(values) >= -1e-6 * values.max()).all())
        must(rises, "it declares monotone, but falls as gamma grows")


def likelihood(plugin: Any) -> None:
    """Bounds by name, or log-weights per image that are independent of the batch."""
    built, params = model()
    if hasattr(plugin, "objectives"):
        bounds = plugin.objectives((3,))
        must({"infinity", "3"} <= set(bounds), f"objectives((3,)) has only {sorted(bounds)}")
        for bound in bounds.values():
            objective(bound)
        return
    if getattr(plugin, "of_students", False):
        built = dataclasses.replace(built, cond_scalars=("to",))
    plugin.check(built)
    json.dumps(plugin.describe(192))
    x = built.decoder.encode(images(3))
    keys = jax.random.split(jax.random.key(0), 3)
    run = jax.jit(lambda x, keys: plugin(built, params, x, {}, keys))
    weights = run(x, keys)
    for name, values in weights._asdict().items():
        must(values.shape == (3, plugin.k), f"{name} has shape {values.shape}, not (3, {plugin.k})")
        must(bool(jnp.isfinite(values).all()), f"{name} is not finite")
    alone = run(x[1:2], keys[1:2])
    same = close(alone.density[0], weights.density[1], 1e-3)
    must(same, "a density depends on the other images in the batch")
    for check in ("coarse", "certificate"):
        if hasattr(plugin, check):
            compute = functools.partial(getattr(plugin, check), built, params)
            result = jax.jit(lambda x, keys, compute=compute: compute(x, {}, keys))(x, keys)
            for values in jax.tree.leaves(result):
                must(values.shape == (3,), f"{check} has shape {values.shape}, not (3,)")
            if check == "certificate":
                must("holds" in plugin.verdict(result), "its verdict has no 'holds'")
