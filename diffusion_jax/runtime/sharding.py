"""The device mesh and the placement of arrays on it, with `NamedSharding`."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffusion_jax.errors import ConfigError

AXES = ("data", "fsdp")
_WORTH_IT = 1024  # elements below which splitting an array costs more than it saves


def parse_mesh(text: str, devices: int) -> tuple[int, int]:
    """The lengths of the mesh's axes.

    Args:
        text: for example `"data=-1,fsdp=4"`; -1 stands for all remaining devices. Axes not named
            are `data=-1` and `fsdp=1`.
        devices: number of devices.

    Returns:
        `(data, fsdp)`.

    Raises:
        ConfigError: the text cannot be read, or does not fit the devices.
    """
    lengths = {"data": -1, "fsdp": 1}
    for part in filter(None, text.split(",")):
        name, _, value = part.strip().partition("=")
        if name not in lengths or not value.lstrip("-").isdigit():
            raise ConfigError(f"mesh={text!r}: write data=-1,fsdp=4; axes are {', '.join(AXES)}")
        lengths[name] = int(value)
    free = [k for k, v in lengths.items() if v == -1]
    fixed = math.prod(v for v in lengths.values() if v != -1)
    if len(free) == 1 and fixed > 0 and devices % fixed == 0:
        lengths[free[0]] = devices // fixed
    if math.prod(lengths.values()) != devices or min(lengths.values()) < 1:
        raise ConfigError(
            f"mesh={text!r} does not fit {devices} devices: the product of its axes must be "
            f"{devices}, and at most one axis may be -1"
        )
    return lengths["data"], lengths["fsdp"]


def make_mesh(devices: list | None = None, spec: str = "data=-1") -> Mesh:
    """A mesh over all devices (or those given), batch axis first.

    `jax.make_mesh` would give Explicit axes, which Linen does not accept; `Mesh` gives Auto. Over
    several TPU slices only `data` crosses the slow network between them.

    Args:
        devices: the devices; None for all.
        spec: the lengths of the axes; see `parse_mesh`.

    Raises:
        ConfigError: the axes do not fit the devices or their slices.
    """
    devices = jax.devices() if devices is None else devices
    data, fsdp = parse_mesh(spec, len(devices))
    slices = len({getattr(d, "slice_index", 0) for d in devices})
    if slices > 1:
        if data % slices:
            raise ConfigError(f"mesh={spec!r}: data={data} is not divisible by {slices} slices")
        inner, outer = (data // slices, fsdp), (slices, 1)
        return Mesh(mesh_utils.create_hybrid_device_mesh(inner, outer, devices), AXES)
    return Mesh(mesh_utils.create_device_mesh((data, fsdp), devices), AXES)


def placed(mesh: Mesh, tree: Any) -> Any:
    """The placement of each array of a state on the mesh; large arrays are split over `fsdp`.

    Args:
        tree: arrays or shapes.

    Returns:
        A sharding for each leaf: the longest evenly divisible axis is split over `fsdp`, and small
        arrays are replicated. The rule depends only on shapes, so that weights, their averages and
        the optimiser's moments are placed alike.
    """
    parts = mesh.shape["fsdp"]

    def place(leaf: Any) -> NamedSharding:
        fitting = [i for i, n in enumerate(leaf.shape) if n % parts == 0]
        if parts == 1 or math.prod(leaf.shape) < _WORTH_IT or not fitting:
            return replicated(mesh)
        axis = max(fitting, key=lambda i: leaf.shape[i])
        spec = [None] * len(leaf.shape)
        spec[axis] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(place, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """A sharding with the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """A sharding with the leading axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Places a host array that every process holds in full, by an explicit transfer."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def batched_steps(mesh: Mesh) -> NamedSharding:
    """Like `batched`, for arrays with a leading axis of steps: `[n, B, ...]`."""
    return NamedSharding(mesh, PartitionSpec(None, AXES))


def local_rows(sharding: NamedSharding, shape: tuple[int, ...], axis: int = 0) -> np.ndarray:
    """The rows of a global array that are on this process's devices.

    Args:
        sharding: sharding of the array.
        shape: its global shape, at least up to `axis`.
        axis: the axis of the rows.

    Returns:
        Sorted row indices.
    """
    slices = sharding.addressable_devices_indices_map(shape[: axis + 1]).values()
    return np.unique(np.concatenate([np.arange(shape[axis])[s[axis]] for s in slices]))


def put_rows(
    rows: np.ndarray, which: np.ndarray, size: int, sharding: NamedSharding, axis: int = 0
) -> jax.Array:
    """Places a host array of which every process holds only the rows of its own devices.

    Args:
        rows: this process's rows.
        which: their indices, from `local_rows`.
        size: total number of rows.
        sharding: sharding of the result.
        axis: the axis of the rows.

    Returns:
        The global array.
    """
    rows = np.asarray(rows)
    shape = (*rows.shape[:axis], size, *rows.shape[axis + 1 :])

    def part(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[axis].indices(size)
        first = np.searchsorted(which, start)
        return rows[(*index[:axis], slice(first, first + stop - start), *index[axis + 1 :])]

    return jax.make_array_from_callback(shape, sharding, part)


def put_key(key: jax.Array, mesh: Mesh) -> jax.Array:
    """Replicates a typed PRNG key, which every process holds, over the mesh."""
    data = put(jax.random.key_data(key), replicated(mesh))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def gathered(mesh: Mesh, tree: Any) -> Any:
    """The arrays, replicated on every device."""
    return _gather(mesh)(tree)


@functools.lru_cache(maxsize=4)
def _gather(mesh: Mesh) -> Callable:
    return jax.jit(lambda t: t, out_shardings=replicated(mesh))


def local(tree: Any) -> Any:
    """This process's copy of replicated arrays, for small computations outside `jax.jit`."""
    return jax.tree.map(jnp.asarray, jax.device_get(tree))


def greatest(values: Sequence[float]) -> list[float]:
    """The maximum of each number over processes; every process must call this."""
    return _of_all(values).max(0).tolist()


def total(value: float) -> float:
    """The sum over processes; every process must call this."""
    return float(_of_all([value]).sum())


def _of_all(values: Sequence[float]) -> np.ndarray:
    """The numbers of each process, `[processes, N]`."""
    if jax.process_count() == 1:
        return np.asarray([values])
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.asarray(values, np.float32))


def check_batch(batch: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Checks that a batch can be split evenly.

    Args:
        batch: the global batch size.
        accumulate: micro-batches per step.

    Raises:
        ConfigError: one of them is below 1, or `batch` is not divisible by devices x `accumulate`.
    """
    if batch < 1 or accumulate < 1:
        raise ConfigError(f"batch={batch} and accumulate={accumulate} must be at least 1")
    parts = mesh.devices.size * accumulate
    if batch % parts:
        raise ConfigError(
            f"batch={batch} is not divisible by {mesh.devices.size} devices x accumulate="
            f"{accumulate}; use a positive multiple of {parts}"
        )
