"""Contracts of tasks, distillation methods and loggers."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import config as config_lib
from diffusion_jax.data.base import Source, Split
from diffusion_jax.experiment import Experiment, teachers
from diffusion_jax.runtime.sharding import make_mesh
from diffusion_jax.testing._tools import images, must
from diffusion_jax.training.distillation import base
from diffusion_jax.training.tasks.base import Handed
from diffusion_jax.types import Array, Pred, alpha, diffuse, expand, sigma

_SHAPE = (4, 4, 1)
_FIGURES = ("bits_per_dim", "loss_by_gamma", "agreement", "samples")


def setting(folder: Path) -> Experiment:
    """A run on tiny images in memory, to test tasks with."""
    config = config_lib.base()
    config.network, config.batch, config.steps = "vdm_unet(width=16, depth=1, embed=8)", 8, 2
    config.conditional, config.ema = True, (0.9,)
    pixels, labels = np.asarray(images(24, _SHAPE, 5)), np.arange(24, dtype=np.int32) % 3

    def load(split: str) -> Split:
        return Split(f"tiny/{split}", pixels, labels, 5, 3)

    run = Experiment(config, folder)
    run.__dict__["mesh"] = make_mesh(jax.devices()[:1])
    run.__dict__["source"] = Source("tiny", _SHAPE, 5, 3, load)
    return run


def task(plugin: Any) -> None:
    """Declarations are valid; a step is pure, preserves the shapes of the state, and is counted."""
    must(isinstance(plugin.holds, str) and bool(plugin.holds), "holds must be a description")
    must(plugin.figure in _FIGURES, f"figure={plugin.figure!r}; allowed: {', '.join(_FIGURES)}")
    with tempfile.TemporaryDirectory() as folder:
        run = setting(Path(folder))
        handed = Handed(*[lambda *_: None] * 6, teacher=_taught)
        opened = plugin.open(run, handed)
        given = opened.given().tree
        state = jax.jit(opened.initial)()
        must(int(state.step) == 0, "the first state is not at step 0")
        declared = jax.tree.map(jnp.shape, plugin.shapes(run))
        average = next(iter(state.ema.values()))
        same = declared == jax.tree.map(jnp.shape, average)
        must(same, "shapes(...) do not match a weight average")
        train, _ = opened.load()
        batch = jax.tree.map(jnp.asarray, train.take(np.arange(8)))
        step = jax.jit(opened.update)
        after, metrics = step(state, batch, given)
        missing = {"loss", "grad_norm", *opened.metrics} ^ set(metrics)
        must(not missing, f"metrics and update(...) disagree on {', '.join(sorted(missing))}")
        for name, value in metrics.items():
            finite = jnp.shape(value) == () and bool(jnp.isfinite(value))
            must(finite, f"{name} is not a finite number")
        must(int(after.step) == 1, f"after one step the state is at step {int(after.step)}")
        same = jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        must(same, "a step changes the shapes of the state")
        again, _ = step(state, batch, given)
        pairs = zip(jax.tree.leaves(again.params), jax.tree.leaves(after.params), strict=True)
        same = all(np.array_equal(a, b) for a, b in pairs)
        must(same, "a step is not a pure function of state and batch")
        must(callable(plugin.function(run)), "function(setting) is not callable")


def _taught(run: Experiment, plugin: Any, finest: int) -> teachers.Opened:
    """A teacher for a student: the same model with other weights."""
    params = run.model.init(jax.random.key(1), _SHAPE)
    return teachers.asked(run.model, params, plugin, finest)


def distillation(plugin: Any) -> None:
    """Lessons lead to less noise, are finite, and leave a perfect student unchanged.

    The data are a single image, for which the exact solution of the ODE is known.
    """
    must(plugin.finest % plugin.steps == 0, "finest is not a multiple of steps")
    n, edges = 64, jnp.linspace(4.0, -6.0, plugin.finest + 1)
    keys = jax.random.split(jax.random.key(0), 3)
    x, eps = (jax.random.normal(k, s) for k, s in zip(keys, (_SHAPE, (n, *_SHAPE)), strict=False))

    def denoise(z: Array, gamma: Array) -> Pred:
        g = expand(gamma, z)
        return Pred(jnp.broadcast_to(x, z.shape), (z - alpha(g) * x) / sigma(g))

    def jump(z: Array, gamma: Array, end: Array) -> Array:
        return base.land(denoise(z, gamma), end)

    def teach(z: Array, gammas: Array) -> Array:
        return jnp.stack([jump(z, gammas[0], g) for g in gammas])

    for progress in (0.0, 0.5, 0.99):
        inputs = base.LessonInputs(
            edges, (jnp.arange(n) + 0.5) / n, jax.random.uniform(keys[2], (n,)),
            jnp.float32(progress), jnp.int32(progress * plugin.rounds),
            lambda gamma: diffuse(x, gamma, eps), teach, jump, jump, denoise, denoise,
        )  # fmt: skip
        lesson = jax.jit(lambda inputs=inputs: plugin.lesson(inputs))()
        shapes = [a.shape for a in lesson] == [eps.shape, (n,), (n,), eps.shape]
        must(shapes, "a lesson is not (z, gamma, end, z_end) of the right shapes")
        must(bool((lesson.end < lesson.gamma).all()), "a lesson does not lead to less noise")
        inside = (lesson.gamma <= edges[0]) & (lesson.end >= edges[-1] - 1e-4)
        must(bool(inside.all()), "a lesson leaves the range of the plan")
        exact = np.allclose(lesson.z_end, jump(lesson.z, lesson.gamma, lesson.end), atol=1e-3)
        must(exact, "with an exact teacher and student, z_end is not the ODE's solution")


def logger(plugin: Any) -> None:
    """Accepts numbers and images, and can be opened again on resume; a sink may be None."""
    with tempfile.TemporaryDirectory() as folder:
        for step in (1, 2):
            sink = plugin.open(Path(folder), {"lr": 1e-3, "eval": {"draws": 2}})
            if sink is None:
                return
            sink.write_scalars(step, {"train/loss": np.float32(0.5), "train/nan": float("nan")})
            sink.write_images(step, {"samples": np.zeros((4, 4, 3), np.uint8)})
            sink.flush()
            sink.close()
