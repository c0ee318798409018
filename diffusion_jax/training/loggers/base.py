"""The contract of a logger.

`make(...)` raises `ConfigError` if the service's package is not installed, before a run begins.
`open` is called on the first process, and again when a run resumes; it finds the run's record by
the work directory.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from diffusion_jax.errors import ConfigError


class Sink(Protocol):
    """An open record. Its methods are called from a separate thread, one at a time."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Records numbers by name."""
        ...

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Records uint8 images `[H, W, C]` by name."""
        ...

    def flush(self) -> None:
        """Waits until everything has been stored."""
        ...

    def close(self) -> None:
        """Closes the record."""
        ...


class Logger(Protocol):
    """A service that keeps records."""

    def open(self, workdir: Path, config: Mapping[str, Any]) -> Sink | None:
        """Opens the record of a run; None if there is nothing besides the run's own files."""
        ...


def need(package: str, install: str) -> None:
    """Raises `ConfigError` unless a package is installed."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"logger: {package} is not installed; pip install {install}, or use logger='files()'"
        )


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings under their dotted names: `{"eval.draws": 16, ...}`."""
    settings = {}
    for k, v in config.items():
        settings |= flat(v, f"{prefix}{k}.") if isinstance(v, Mapping) else {f"{prefix}{k}": v}
    return settings
