"""Data from installed packages."""

import importlib.util
from pathlib import Path

from diffusion_jax.errors import DataError


def folder(package: str, who: str, install: str) -> Path:
    """The folder of an installed package, found without importing it.

    Args:
        package: name of the package.
        who: who needs it, for the message.
        install: command that installs it, for the message.

    Raises:
        DataError: the package is not installed.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{who} needs data that are not installed: {install}")
    return Path(spec.submodule_search_locations[0])
