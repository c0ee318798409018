"""Compiles the training step: sharded by `jax.jit`, with donated buffers."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from diffusion_jax.data.captions import TEXTS, looked_up
from diffusion_jax.runtime.sharding import batched, replicated
from diffusion_jax.training import meter as meter_lib
from diffusion_jax.training.meter import Meter
from diffusion_jax.training.state import State
from diffusion_jax.training.tasks.base import Task
from diffusion_jax.types import Array


def fresh_meter(task: Task) -> Meter:
    """An empty meter for the metrics that `task.update` reports."""
    return meter_lib.fresh(task.metrics)


def compile_steps(
    task: Task,
    mesh: Mesh,
    resident: tuple[int, ...] | None,
    several: bool,
    placement: Any = None,
    spike: float = math.inf,
) -> Callable:
    """The jitted `(state, meter, data, indices, given) -> (state, meter, loss)`.

    `given` are weights that are used but not trained (`tasks.base.Given`); there are none by
    default.

    Args:
        task: the task whose `update` is compiled.
        resident: shape of an image if `data` is the whole data set, replicated on the devices, and
            `indices` select the batch inside the step. Images are then flat, `[N, H*W*C]`, because
            a TPU would pad their few channels, and texts are a table (`Split.whole`). None if
            `data` is the batch itself; only the length of `indices` then matters.
        several: whether n steps run in one dispatch, by `lax.scan`, with `indices` `[n, B]`;
            otherwise one step runs, with `indices` `[B]`.
        placement: tree of shardings of the state on the mesh; None for replicated.
        spike: a loss above this is treated as not finite.

    Returns:
        The function; `state` and `meter` are donated.
    """

    def one(given: Any, carry: tuple, xs: tuple) -> tuple:
        state, meter = carry
        data, index = xs
        batch = data
        if resident:
            batch = {k: a[index] for k, a in data.items() if k != TEXTS}
            if TEXTS in data:
                batch["text"] = looked_up(data[TEXTS], batch["caption"])
            batch["image"] = batch["image"].reshape(-1, *resident)
        batch = jax.lax.with_sharding_constraint(batch, batched(mesh))
        after, metrics = task.update(state, batch, given)
        return (after, meter_lib.add(meter, metrics, state.step, spike)), metrics["loss"]

    def run(state: State, meter: Meter, data: dict, indices: Array, given: Any = ()) -> tuple:
        step = partial(one, given)
        if not several:
            (state, meter), value = step((state, meter), (data, indices))
        elif resident:
            (state, meter), value = jax.lax.scan(
                lambda carry, index: step(carry, (data, index)), (state, meter), indices
            )
        else:
            (state, meter), value = jax.lax.scan(step, (state, meter), (data, indices))
        return state, meter, value

    whole = replicated(mesh)
    return jax.jit(run, donate_argnums=(0, 1), out_shardings=(placement or whole, whole, whole))
