"""Running sums of metrics on the device, so that logging costs one transfer per interval."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.types import Array

Metrics = dict[str, Array]
NEVER = jnp.iinfo(jnp.int32).max


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Meter:
    """Sums of the metrics since the last reset.

    Attributes:
        sums: sum of each metric.
        count: number of steps summed.
        bad_step: first step whose loss or gradient was not finite, or `NEVER`.
    """

    sums: Metrics
    count: Array
    bad_step: Array


def fresh(names: Iterable[str]) -> Meter:
    """An empty meter for the metrics `names`."""
    return Meter(
        sums={n: jnp.zeros((), jnp.float32) for n in names},
        count=jnp.zeros((), jnp.int32),
        bad_step=jnp.full((), NEVER, jnp.int32),
    )


def add(meter: Meter, metrics: Metrics, step: Array, spike: float = math.inf) -> Meter:
    """The meter after a step.

    Args:
        meter: the meter before.
        metrics: metrics of the step, including `loss` and `grad_norm`.
        step: number of the step.
        spike: a loss above this is treated as NaN.

    Returns:
        The meter.
    """
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    finite &= metrics["loss"] <= spike
    return Meter(
        sums=jax.tree.map(lambda s, m: s + jnp.astype(m, s.dtype), meter.sums, metrics),
        count=meter.count + 1,
        bad_step=jnp.where(finite, meter.bad_step, jnp.minimum(meter.bad_step, step)),
    )
