"""Contracts of samplers, grids, plans, guidance, final steps, correctors and edits."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling import checks
from diffusion_jax.sampling.edits.base import Brush, Canvas, Inputs
from diffusion_jax.sampling.final_steps.base import Readout
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.loop import integrate
from diffusion_jax.sampling.method import Method
from diffusion_jax.testing._tools import (
    MEAN,
    SHAPE,
    VARIANCE,
    close,
    gaussian,
    images,
    model,
    must,
    null,
)
from diffusion_jax.training.distillation.base import Lesson, aim
from diffusion_jax.types import Array, Pred, alpha, sigma


def sampler(plugin: Any) -> None:
    """Coefficients are float64; a step of length 0 changes nothing; samples a Gaussian."""
    checks.check_sampler(plugin)
    gammas = np.linspace(4.0, -6.0, 41)
    for leaf in jax.tree.leaves(plugin.rows(gammas)):
        must(
            isinstance(leaf, np.ndarray) and leaf.dtype == np.float64 and len(leaf) == 40
            and bool(np.isfinite(leaf).all()),
            "rows(gammas) must be finite float64 numpy arrays, one value for each of the n steps",
        )  # fmt: skip
    z = jax.random.normal(jax.random.key(0), (4000, 2))
    z = alpha(4.0) * MEAN + jnp.sqrt(alpha(4.0) ** 2 * VARIANCE + sigma(4.0) ** 2) * z
    unmoved = integrate(gaussian, plugin, np.zeros(2), z, jax.random.key(1))
    must(close(unmoved, z, 1e-4), "a step of length zero changes z")
    denoise = _to_end(gammas[-1]) if getattr(plugin, "to_end", False) else gaussian
    end = jax.jit(lambda z, key: integrate(denoise, plugin, gammas, z, key))(z, jax.random.key(2))
    must(end.dtype == z.dtype, f"z of {z.dtype} became {end.dtype}")
    mean, std = float(end.mean()), float(end.std())
    must(abs(mean - MEAN) < 0.05, f"samples of a Gaussian have mean {mean:.3f}, not {MEAN}")
    expected = VARIANCE**0.5
    must(
        abs(std / expected - 1.0) < 0.1,
        f"samples of a Gaussian have standard deviation {std:.3f}, not {expected:.3f}",
    )


def _to_end(end: float) -> Callable[[Array, Array], Pred]:
    """An exact consistency model of the Gaussian."""

    def std(gamma: Any) -> Array:
        return jnp.sqrt(alpha(gamma) ** 2 * VARIANCE + sigma(gamma) ** 2)

    def denoise(z: Array, gamma: Array) -> Pred:
        z_end = alpha(end) * MEAN + std(end) / std(gamma) * (z - alpha(gamma) * MEAN)
        g, e = (jnp.broadcast_to(a, z.shape[:1]) for a in (gamma, jnp.asarray(end, z.dtype)))
        x = aim(Lesson(z, g, e, z_end))
        return Pred(x, (z - alpha(gamma) * x) / sigma(gamma))

    return denoise


def grid(plugin: Any) -> None:
    """Gammas fall strictly from noise to data, one value more than steps."""
    gammas = plugin(-8.0, 5.0, 10, lambda t: -8.0 + 13.0 * np.asarray(t))
    must(np.shape(gammas) == (11,), f"10 steps gave shape {np.shape(gammas)}, not (11,)")
    must(gammas[0] == 5.0 and gammas[-1] == -8.0, "it does not run from gamma_1 to gamma_0")
    must(bool(np.all(np.diff(gammas) < 0.0)), "it does not fall at every step")


def plan(plugin: Any) -> None:
    """Values are finite, and start and end like the grid."""
    gammas = np.linspace(5.0, -8.0, 21)
    path = plugin(gammas)
    must(bool(np.isfinite(path).all()), "a value is not finite")
    must(path[0] == gammas[0] and path[-1] == gammas[-1], "its ends differ from the grid's")


def guidance(plugin: Any) -> None:
    """Returns `Pred` like `z`, with and without `jit`; examples are independent."""
    guided = plugin(lambda z, gamma, cond: gaussian(z, gamma, cond["label"]), Context(null=null))
    z, cond = jax.random.normal(jax.random.key(0), (3, *SHAPE)), {"label": jnp.asarray([0, 1, 0])}
    gamma = jnp.asarray([1.0, -1.0, 2.0])
    pred = checks.matching(guided)(z, gamma, cond)
    must(all(bool(jnp.isfinite(a).all()) for a in pred), "a prediction is not finite")
    alone = guided(z[1:2], gamma[1:2], {"label": cond["label"][1:2]})
    must(close(pred.x[1:2], alone.x, 1e-4), "an example depends on the others")
    must(close(jax.jit(guided)(z, gamma, cond).x, pred.x, 1e-4), "results differ under jit")


def final_step(plugin: Any) -> None:
    """Returns data of the shape of `z` after `nfe` calls of the denoiser, also under `jit`."""
    built, params = model()
    z, gamma = jax.random.normal(jax.random.key(0), (3, *SHAPE)), jnp.asarray(-8.0)
    calls, reader = [], Readout(built, params, jax.random.split(jax.random.key(1), 3))

    def denoise(z: Array, gamma: Array) -> Pred:
        calls.append(gamma)
        return gaussian(z, gamma)

    out = plugin(denoise, z, gamma, reader)
    must(len(calls) == plugin.nfe, f"it declares nfe={plugin.nfe}, but made {len(calls)} calls")
    must(out.shape == z.shape, f"it returned shape {out.shape} for z of {z.shape}")
    must(bool(jnp.isfinite(out).all()), "a value is not finite")
    run = jax.jit(lambda z: plugin(gaussian, z, gamma, reader))
    must(run(z).dtype == out.dtype and close(run(z), out, 1e-4), "results differ under jit")
    must(close(run(z.at[1].set(0.0))[0], out[0], 1e-4), "an example depends on the others")


def corrector(plugin: Any) -> None:
    """Changes `z` but preserves the distribution of a Gaussian; None is no corrector."""
    if plugin is None:
        return
    gamma, n = jnp.asarray(0.5), 4000
    std = jnp.sqrt(alpha(gamma) ** 2 * VARIANCE + sigma(gamma) ** 2)
    z = alpha(gamma) * MEAN + std * jax.random.normal(jax.random.key(0), (n, 2))
    run = jax.jit(lambda z, key: plugin(gaussian, z, gamma, key))
    after = run(z, jax.random.key(1))
    must(after.shape == z.shape and after.dtype == z.dtype, "it changes the shape or type of z")
    must(not close(after, z, 1e-6), "it does not change z")
    for i in range(4):
        after = run(after, jax.random.key(2 + i))
    mean, scale = float((after.mean() - alpha(gamma) * MEAN) / std), float(after.std() / std)
    must(abs(mean) < 0.1, f"the mean of a Gaussian moved by {mean:.2f} standard deviations")
    must(abs(scale - 1.0) < 0.1, f"the standard deviation of a Gaussian grew {scale:.2f}-fold")


def edit(plugin: Any) -> None:
    """Rows, plan and images are consistent; a row's result is independent of its batch."""
    built, params = model()
    mask = np.zeros((2, *SHAPE[:2], 1), np.float32)
    mask[:, 2:5, 3:6] = 1.0
    try:
        layout = plugin.lay_out(Inputs(np.asarray(images(2)), mask, {}, 1))
    except ConfigError:  # the edit chooses the region itself
        layout = plugin.lay_out(Inputs(np.asarray(images(2)), None, {}, 1))
    rows = {len(a) for a in jax.tree.leaves(layout.canvas)}
    must(len(rows) == 1, f"arrays of the canvas differ in length: {sorted(rows)}")
    count = rows.pop()
    must(count % layout.columns == 0, f"{count} rows are not a multiple of {layout.columns}")
    gammas = plugin.plan(np.linspace(5.0, -8.0, 5))
    must(bool(np.isfinite(gammas).all()) and gammas[-1] == -8.0, "the plan does not end at gamma_0")
    method = Method(
        registry.build("guidance", "none()"), registry.build("samplers", "ddim()"), gammas,
        registry.build("final_steps", "identity()"),
    )  # fmt: skip
    plugin.check(built, method)
    context = Context(null=None, open=None)

    @jax.jit
    def paint(canvas: Canvas) -> Array:
        brush = Brush(built, params, method, context, layout.shared)
        return plugin.paint(brush, canvas._replace(image=built.decoder.encode(canvas.image)), key)

    key = jax.random.key(3)
    numbered = layout.canvas._replace(row=np.arange(count, dtype=np.int32))
    out = paint(numbered)
    must(out.shape == layout.canvas.image.shape, f"results have shape {out.shape}")
    must(bool(jnp.isfinite(out).all()), "a result is not finite")
    back = paint(jax.tree.map(lambda a: a[::-1], numbered))
    must(close(back[::-1], out, 1e-3), "a row's result depends on its batch")
