"""The contracts of plug-ins, to call on your own: `check("samplers", "mine.midpoint()")`.

Each raises AssertionError with one line that says what does not hold. They take seconds and need no
data and no test framework.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.process.schedules.base import check_rises, endpoints, gamma_and_slope
from diffusion_jax.sampling import checks
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.loop import integrate
from diffusion_jax.types import Array, Cond, Pred, alpha, expand, sigma

_SHAPE = (8, 8, 3)
_MEAN, _VARIANCE = 0.7, 0.3  # of the Gaussian that samplers are run on


def check(kind: str, plugin: Any, **known: Any) -> Any:
    """Holds a plug-in against the contract of its kind.

    Args:
        kind: one of `CONTRACTS`.
        plugin: what `make` returned, or the string to build it from.
        **known: what `make` may want to know, such as `channels` or `shape`, for a string.

    Returns:
        The plug-in.

    Raises:
        AssertionError: it does not keep the contract.
        ConfigError: there is no contract test for the kind.
    """
    if kind not in CONTRACTS:
        raise ConfigError(f"no contract tests for {kind!r}; there are: {', '.join(CONTRACTS)}")
    if isinstance(plugin, str):
        context = {"gamma_min": -8.0, "gamma_max": 5.0, "levels": 256, "channels": 3,
                   "shape": _SHAPE, "num_classes": 0, **known}  # fmt: skip
        plugin = registry.build(kind, plugin, **context)
    try:
        CONTRACTS[kind](plugin)
    except ConfigError as e:
        raise AssertionError(f"{kind}: {e}") from e
    return plugin


def schedule(plugin: Any) -> None:
    """Rises from end to end, with a finite slope, alone and under `jit`."""
    params, t = plugin.init(jax.random.key(0)), jnp.linspace(0.0, 1.0, 33)
    check_rises(plugin, params)
    gamma, slope = jax.jit(lambda p: gamma_and_slope(plugin, p, t))(params)
    _must(bool(jnp.isfinite(slope).all()), "the slope of gamma is not finite")
    ends = jnp.stack(endpoints(plugin, params))
    _must(_close(ends, gamma[jnp.asarray([0, -1])], 1e-3), "gamma of a vector of times is another")


def network(plugin: Any) -> None:
    """Shape and type of `z`; examples do not see one another."""
    z = jax.random.normal(jax.random.key(0), (2, *_SHAPE))
    gamma = jnp.asarray([-3.0, 1.0])
    params = jax.jit(lambda key: plugin.init(key, z, gamma, {}))(jax.random.key(1))["params"]
    keys = jax.random.split(jax.random.key(2), len(jax.tree.leaves(params)))
    leaves, tree = jax.tree.flatten(params)
    moved = [a + 0.05 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    weights = {"params": jax.tree.unflatten(tree, moved)}  # zero layers would hide everything
    run = jax.jit(lambda z, gamma: plugin.apply(weights, z, gamma, {}))
    out = run(z, gamma)
    _must(out.shape == z.shape, f"it returned shape {out.shape} for z of {z.shape}")
    _must(out.dtype == z.dtype, f"it returned {out.dtype} for z of {z.dtype}")
    other = run(z.at[1].set(0.0), gamma)
    _must(_close(out[0], other[0], 1e-4), "examples see one another")
    _must(not _close(out, run(z, gamma + 2.0), 1e-6), "gamma does not matter")


def sampler(plugin: Any) -> None:
    """Coefficients in float64; no step is no move; a Gaussian's law comes out of many steps."""
    checks.check_sampler(plugin)
    gammas = np.linspace(4.0, -6.0, 41)
    for leaf in jax.tree.leaves(plugin.rows(gammas)):
        _must(
            isinstance(leaf, np.ndarray) and leaf.dtype == np.float64 and len(leaf) == 40
            and bool(np.isfinite(leaf).all()),
            "rows(gammas) gives float64 numpy arrays, finite, one value for each of the n steps",
        )  # fmt: skip
    z = jax.random.normal(jax.random.key(0), (4000, 2))
    z = alpha(4.0) * _MEAN + jnp.sqrt(alpha(4.0) ** 2 * _VARIANCE + sigma(4.0) ** 2) * z
    still = integrate(_gaussian, plugin, np.zeros(2), z, jax.random.key(1))
    _must(_close(still, z, 1e-4), "a step of length zero moves z")
    end = jax.jit(lambda z, key: integrate(_gaussian, plugin, gammas, z, key))(z, jax.random.key(2))
    _must(end.dtype == z.dtype, f"z of {z.dtype} became {end.dtype}")
    mean, std = float(end.mean()), float(end.std())
    _must(abs(mean - _MEAN) < 0.05, f"the mean of a Gaussian is {mean:.3f} for {_MEAN}")
    wanted = _VARIANCE**0.5
    _must(
        abs(std / wanted - 1.0) < 0.1, f"the deviation of a Gaussian is {std:.3f} for {wanted:.3f}"
    )


def grid(plugin: Any) -> None:
    """From noise to data, strictly down, one more value than steps."""
    gammas = plugin(-8.0, 5.0, 10, lambda t: -8.0 + 13.0 * np.asarray(t))
    _must(np.shape(gammas) == (11,), f"10 steps gave shape {np.shape(gammas)}, not (11,)")
    _must(gammas[0] == 5.0 and gammas[-1] == -8.0, "it does not run from gamma_1 to gamma_0")
    _must(bool(np.all(np.diff(gammas) < 0.0)), "it does not go down at every step")


def plan(plugin: Any) -> None:
    """Finite, with the ends of the grid."""
    gammas = np.linspace(5.0, -8.0, 21)
    path = plugin(gammas)
    _must(bool(np.isfinite(path).all()), "a value is not finite")
    _must(path[0] == gammas[0] and path[-1] == gammas[-1], "its ends are not those of the grid")


def guidance(plugin: Any) -> None:
    """`Pred` of the shape and type of `z`, alone and under `jit`; examples are independent."""
    guided = plugin(lambda z, gamma, cond: _gaussian(z, gamma, cond["label"]), Context(null=_null))
    z, cond = jax.random.normal(jax.random.key(0), (3, *_SHAPE)), {"label": jnp.asarray([0, 1, 0])}
    gamma = jnp.asarray([1.0, -1.0, 2.0])
    pred = checks.matching(guided)(z, gamma, cond)
    _must(all(bool(jnp.isfinite(a).all()) for a in pred), "a prediction is not finite")
    alone = guided(z[1:2], gamma[1:2], {"label": cond["label"][1:2]})
    _must(_close(pred.x[1:2], alone.x, 1e-4), "examples see one another")
    _must(_close(jax.jit(guided)(z, gamma, cond).x, pred.x, 1e-4), "it differs under jit")


def decoder(plugin: Any) -> None:
    """Data come back from model space, and their log-probability is finite, one per image."""
    levels = getattr(plugin, "levels", 0) or 2
    images = jnp.arange(2 * levels, dtype=jnp.uint8).reshape(2, 1, levels, 1) % levels
    x = plugin.encode(images)
    _must(bool(jnp.all(plugin.decode(x) == images)), "decode(encode(images)) is not images")
    score = plugin.log_prob(x, x, jnp.asarray(-8.0))
    _must(score.shape == (2,), f"log_prob has shape {score.shape} for two images")
    _must(bool(jnp.isfinite(score).all()), "log_prob is not finite")


def encoder(plugin: Any) -> None:
    """`(x, dx / dgamma)` of the shape of `x`; `shift` is `x_gamma - x`; the derivative is one."""
    x = jax.random.normal(jax.random.key(0), (2, *_SHAPE))
    params, gamma = plugin.init(jax.random.key(1), _SHAPE), jnp.asarray([-2.0, 1.0])
    at = jax.jit(lambda g: plugin(params, x, g, {}, None))
    moved, slope = at(gamma)
    _must(moved.shape == slope.shape == x.shape, "the two results do not have the shape of x")
    shift = plugin.shift(params, x, gamma, {}, None)
    _must(_close(moved, x + shift, 1e-4), "shift is not x_gamma - x")
    difference = (at(gamma + 0.05)[0] - at(gamma - 0.05)[0]) / 0.1
    _must(_close(difference, slope, 0.02), "the derivative is not that of x_gamma")


def proposal(plugin: Any) -> None:
    """Weights are one over the density of the times: their mean is 1."""
    line = registry.build("schedules", "linear(gamma_min=-8.0, gamma_max=5.0)")
    u = (jnp.arange(20_000) + 0.5) / 20_000
    t, weight = plugin.times(plugin.init(), line, {}, u)
    _must(bool(jnp.all((t >= 0.0) & (t <= 1.0))), "times leave [0, 1]")
    mean = float((weight * jax.nn.sigmoid(10.0 * (0.5 - t))).mean())
    _must(abs(mean - 0.5) < 0.01, f"a mean over times is {mean:.3f} for 0.5: weights are wrong")


def pyramid(plugin: Any) -> None:
    """`merge` undoes `split`; the parts are whole levels of the shapes that are said."""
    images = jax.random.randint(jax.random.key(0), (64, 4, 6, 3), 0, 256).astype(jnp.uint8)
    low, high = plugin.split(images)
    _must(low.shape == (64, 2, 3, 3), "low does not have half of height and width")
    _must(high.shape == (64, *plugin.high_shape((4, 6, 3))), "high is not of shape high_shape(...)")
    _must(low.dtype == high.dtype == jnp.uint8, "a part is not uint8")
    _must(bool(jnp.all(plugin.merge(low, high) == images)), "merge(split(images)) is not images")


def view(plugin: Any) -> None:
    """Parts of the shapes that are said; `join` gives an image of them."""
    images = jax.random.randint(jax.random.key(0), (4, 8, 8, 3), 0, 256).astype(jnp.uint8)
    part, given = plugin(images)
    _must(part.shape == (4, *plugin.shape((8, 8, 3))), "the part is not of shape shape(...)")
    told = plugin.given_shape((8, 8, 3))
    _must(("low" in given) == (told is not None), "what is given is not what given_shape says")
    _must(told is None or given["low"].shape == (4, *told), "low is not of shape given_shape(...)")
    joined, size = plugin.join(part, given), 8 >> plugin.halvings
    _must(joined.shape == (4, size, size, 3), "join does not give images halved so often")
    _must(joined.dtype == jnp.uint8, "join does not give images")


CONTRACTS: dict[str, Callable[[Any], None]] = {
    "schedules": schedule,
    "models": network,
    "samplers": sampler,
    "grids": grid,
    "plans": plan,
    "guidance": guidance,
    "decoders": decoder,
    "encoders": encoder,
    "proposals": proposal,
    "pyramids": pyramid,
    "views": view,
}


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _close(a: Array, b: Array, tolerance: float) -> bool:
    return bool(jnp.allclose(a, b, rtol=tolerance, atol=tolerance))


def _null(cond: Cond) -> Cond:
    return {**cond, "label": jnp.full_like(cond["label"], 2)}


def _gaussian(z: Array, gamma: Array, label: Array | None = None) -> Pred:
    """The best denoiser of a Gaussian; a class moves its mean."""
    g = expand(gamma, z)
    a, s = alpha(g), sigma(g)
    mean = _MEAN if label is None else _MEAN - 0.5 * expand(label.astype(z.dtype), z)
    x = mean + a * _VARIANCE / (a**2 * _VARIANCE + s**2) * (z - a * mean)
    return Pred(x, (z - a * x) / s)
