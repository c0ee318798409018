"""How much memory a device has, and checks that programs fit into it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from diffusion_jax.errors import ConfigError

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # the limit of a container, on Linux


def of_device(device: jax.Device) -> int | None:
    """Bytes of memory of a device; CPU devices share the machine's.

    None if it is unknown, as for devices of a topology that is only compiled for.
    """
    if device.platform == "cpu":
        return of_host() // jax.local_device_count("cpu")
    try:
        stats = device.memory_stats()
    except (jax.errors.JaxRuntimeError, NotImplementedError):
        return None
    return (stats or {}).get("bytes_limit")


def of_host() -> int:
    """Bytes of memory of the machine, or of the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, _of_container() or total)


def _of_container() -> int | None:
    try:
        return int(_LIMIT.read_text())
    except (OSError, ValueError):  # no container, or no limit ("max")
        return None


def check(needed: float, device: jax.Device, what: str, remedy: str) -> None:
    """Raises `ConfigError` if `what` needs more bytes than a device has."""
    limit = of_device(device)
    if limit is not None and needed > limit:
        raise ConfigError(
            f"{what} needs {needed / 2**30:,.1f} GiB on each device, and each {device.device_kind} "
            f"has {limit / 2**30:,.1f} GiB: {remedy}"
        )


def check_host(needed: float, what: str, remedy: str) -> None:
    """Raises `ConfigError` if `what` needs more bytes than the machine has."""
    if needed > of_host():
        raise ConfigError(
            f"{what} need {needed / 2**30:,.1f} GiB, and this machine has "
            f"{of_host() / 2**30:,.1f} GiB: {remedy}"
        )


def check_program(program: Any, device: jax.Device, what: str, remedy: str) -> None:
    """Compiles a lowered program and checks its memory as estimated by the compiler.

    Calling the function that was lowered does not compile again.

    Raises:
        ConfigError: it needs more than the device has.
    """
    sizes = program.compile().memory_analysis()
    if sizes is not None:
        needed = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
        needed += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
        check(needed, device, what, remedy)


def checked(run: Callable, device: jax.Device, what: str, remedy: str) -> Callable:
    """Wraps the jitted `run` to check its program (`check_program`) before the first call."""
    seen: list[bool] = []

    def call(*args: Any) -> Any:
        if not seen:
            check_program(run.lower(*args), device, what, remedy)
            seen.append(True)
        return run(*args)

    return call
