"""Creates one JAX device per processor core, for machines without an accelerator.

XLA:CPU runs most operations of a small network on one core and splits only the largest. With one
device per core a batch is split over the cores, as over other devices.
"""

import contextlib
import os

import jax

from diffusion_jax.errors import ConfigError
from diffusion_jax.runtime import cores
from diffusion_jax.runtime.sharding import parse_mesh

_MOST = 8  # every device holds a copy of the training state
# Devices wait for each other once a step, and XLA would end a process whose devices are a minute
# apart: on a busy machine a slow step can take that long without being stuck.
_PATIENCE = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=600",
    "--xla_cpu_collective_call_terminate_timeout_seconds=36000",
)
_FORCED = "xla_force_host_platform_device_count"


def fitting(most: int, batch: int, accumulate: int = 1, mesh: str = "data=-1") -> int:
    """The largest number of devices that split a batch evenly.

    Args:
        most: largest number of devices.
        batch: the global batch size.
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


def share(batch: int, accumulate: int = 1, mesh: str = "data=-1") -> None:
    """Makes as many CPU devices as there are cores and the batch allows, at most eight.

    This does not affect accelerators. A number set by the user (`JAX_NUM_CPU_DEVICES` or
    `XLA_FLAGS`) is kept, and so are devices that are already in use.

    Args:
        batch: the global batch size.
        accumulate: micro-batches per step.
        mesh: axes that the devices must fit.
    """
    given = os.environ.get("XLA_FLAGS", "").strip()
    if _FORCED not in given and jax.config.jax_num_cpu_devices < 1:
        n = fitting(min(cores.available(), _MOST), batch, accumulate, mesh)
        with contextlib.suppress(RuntimeError):  # devices are already in use
            jax.config.update("jax_num_cpu_devices", n)
    several = _FORCED in given or jax.config.jax_num_cpu_devices > 1
    if several and (not given or given.startswith("-")):  # otherwise it names a file of flags
        missing = [f for f in _PATIENCE if f.partition("=")[0] not in given]
        os.environ["XLA_FLAGS"] = " ".join([given, *missing]).strip()
