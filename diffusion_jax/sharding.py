"""The device mesh and how arrays lie on it: `jax.jit` with `NamedSharding`, no `pmap`."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffusion_jax.errors import ConfigError

AXES = ("data", "fsdp")


def make_mesh(devices: list | None = None) -> Mesh:
    """A mesh over all devices (or those given), batch axis first.

    `jax.make_mesh` would give Explicit axes, which Linen does not accept; `Mesh` gives Auto.
    """
    devices = jax.devices() if devices is None else devices
    return Mesh(np.array(devices).reshape(len(devices), 1), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Places a host array that every process holds whole; an explicit transfer, any topology."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def check_batch(batch: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Refuses a batch that cannot be split evenly.

    Args:
        batch: the global batch size.
        mesh: the device mesh.
        accumulate: micro-batches per step.

    Raises:
        ConfigError: `batch` is not divisible by devices x accumulation.
    """
    parts = mesh.devices.size * accumulate
    if batch < 1 or accumulate < 1 or batch % parts:
        raise ConfigError(
            f"batch={batch} is not divisible by {mesh.devices.size} devices x accumulate="
            f"{accumulate}; use a positive multiple of {parts}"
        )
