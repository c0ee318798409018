"""How much memory a device has."""

import os

import jax


def of_device(device: jax.Device) -> int | None:
    """Bytes of memory of a device; None if it does not say. Devices of a CPU share the machine's.

    A device that is not here (of a topology to compile for) says nothing.
    """
    if device.platform == "cpu":
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total // jax.local_device_count("cpu")
    try:
        stats = device.memory_stats()
    except (jax.errors.JaxRuntimeError, NotImplementedError):
        return None
    return (stats or {}).get("bytes_limit")
