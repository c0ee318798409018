"""Contracts of schedules, decoders, encoders and time sampling."""

from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax import registry
from diffusion_jax.process.schedules.base import check_rises, endpoints, gamma_and_slope
from diffusion_jax.testing._tools import SHAPE, close, must


def schedule(plugin: Any) -> None:
    """Gamma rises, with a finite slope, with and without `jit`."""
    params, t = plugin.init(jax.random.key(0)), jnp.linspace(0.0, 1.0, 33)
    check_rises(plugin, params)
    gamma, slope = jax.jit(lambda p: gamma_and_slope(plugin, p, t))(params)
    must(bool(jnp.isfinite(slope).all()), "the slope of gamma is not finite")
    ends = jnp.stack(endpoints(plugin, params))
    same = close(ends, gamma[jnp.asarray([0, -1])], 1e-3)
    must(same, "gamma of a vector of times differs from gamma of single times")


def decoder(plugin: Any) -> None:
    """`decode` is the inverse of `encode`, and `log_prob` is finite, one value per image."""
    levels = getattr(plugin, "levels", 0) or 2
    images = jnp.arange(2 * levels, dtype=jnp.uint8).reshape(2, 1, levels, 1) % levels
    x = plugin.encode(images)
    must(bool(jnp.all(plugin.decode(x) == images)), "decode(encode(images)) is not images")
    score = plugin.log_prob(x, x, jnp.asarray(-8.0))
    must(score.shape == (2,), f"log_prob has shape {score.shape} for two images")
    must(bool(jnp.isfinite(score).all()), "log_prob is not finite")


def encoder(plugin: Any) -> None:
    """Returns `x_gamma` and its derivative, in the shape of `x`; `shift` is `x_gamma - x`."""
    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    params, gamma = plugin.init(jax.random.key(1), SHAPE), jnp.asarray([-2.0, 1.0])
    at = jax.jit(lambda g: plugin(params, x, g, {}, None))
    moved, slope = at(gamma)
    must(moved.shape == slope.shape == x.shape, "the two results do not have the shape of x")
    shift = plugin.shift(params, x, gamma, {}, None)
    must(close(moved, x + shift, 1e-4), "shift is not x_gamma - x")
    difference = (at(gamma + 0.05)[0] - at(gamma - 0.05)[0]) / 0.1
    must(close(difference, slope, 0.02), "the second result is not the derivative of x_gamma")


def time_sampling(plugin: Any) -> None:
    """Times are in [0, 1]; weights are one over their density, so weighted means are unbiased."""
    line = registry.build("schedules", "linear(gamma_min=-8.0, gamma_max=5.0)")
    u = (jnp.arange(20_000) + 0.5) / 20_000
    t, weight = plugin.times(plugin.init(), line, {}, u)
    must(bool(jnp.all((t >= 0.0) & (t <= 1.0))), "times leave [0, 1]")
    mean = float((weight * jax.nn.sigmoid(10.0 * (0.5 - t))).mean())
    must(abs(mean - 0.5) < 0.01, f"a weighted mean over times is {mean:.3f}, not 0.5")
