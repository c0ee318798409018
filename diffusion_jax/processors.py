"""Devices of a machine without an accelerator: one for each processor core.

XLA:CPU runs most operations of a small network on one core and splits only the largest. With a
device for each core a batch is shared out, as over devices of any kind.
"""

import os
from collections.abc import Mapping

import jax

from diffusion_jax.errors import ConfigError
from diffusion_jax.sharding import parse_mesh

_MOST = 8  # every device holds the weights once more


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fitting(most: int, batch: int, accumulate: int = 1, mesh: str = "data=-1") -> int:
    """How many devices share a batch evenly.

    Args:
        most: devices there may be.
        batch: the global batch.
        accumulate: micro-batches per step.
        mesh: axes that the devices must fit, see `sharding.parse_mesh`.

    Returns:
        The largest number up to `most`; 1 if none fits.
    """
    for n in range(most, 1, -1):
        try:
            parse_mesh(mesh, n)
        except ConfigError:
            continue
        if accumulate > 0 and batch % (n * accumulate) == 0:
            return n
    return 1


def share(
    batch: int, accumulate: int = 1, mesh: str = "data=-1", env: Mapping[str, str] = os.environ
) -> None:
    """Makes as many CPU devices as there are cores and the batch allows, eight at most.

    Of no effect where there are accelerators, or once a device has been used. A number that the
    user gives (`JAX_NUM_CPU_DEVICES`, or `XLA_FLAGS`) stays.

    Args:
        batch: the global batch.
        accumulate: micro-batches per step.
        mesh: axes that the devices must fit.
        env: the environment.
    """
    forced = "xla_force_host_platform_device_count" in env.get("XLA_FLAGS", "")
    if not forced and jax.config.jax_num_cpu_devices < 1:
        n = fitting(min(cores(), _MOST), batch, accumulate, mesh)
        jax.config.update("jax_num_cpu_devices", n)
