"""Data that come in packages."""

import importlib.util
from pathlib import Path

from diffusion_jax.errors import DataError


def folder(package: str, who: str, install: str) -> Path:
    """Where an installed package lies; nothing of it is run.

    Raises:
        DataError: it is not installed.
    """
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise DataError(f"{who} needs data that are not installed: {install}")
    return Path(found.submodule_search_locations[0])
