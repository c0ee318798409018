"""Weights & Biases; `mode="offline"` writes to the work directory, for a later `wandb sync`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.training.loggers.base import need

_MODES = ("online", "offline", "disabled")


class _Run:
    """A W&B run. Steps that are repeated after an interruption are not recorded again."""

    def __init__(self, run: Any, image: Any):
        self._run, self._image = run, image

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        self._run.log({k: float(v) for k, v in scalars.items()}, step=step)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        self._run.log({k: self._image(np.asarray(v)) for k, v in images.items()}, step=step)

    def flush(self) -> None:
        """Does nothing: wandb's own process sends the values."""

    def close(self) -> None:
        self._run.finish()


@dataclass(frozen=True)
class WandB:
    """A `loggers.base.Logger`."""

    project: str
    mode: str

    def open(self, workdir: Path, config: Mapping[str, Any]) -> _Run:
        """Starts or resumes the W&B run of this work directory."""
        import wandb

        run = wandb.init(
            project=self.project, mode=self.mode, name=workdir.name, dir=str(workdir),
            id=hashlib.sha256(str(workdir).encode()).hexdigest()[:16], resume="allow",
            config=dict(config),
        )  # fmt: skip
        return _Run(run, wandb.Image)


def make(project: str = "diffusion_jax", mode: str = "online") -> WandB:
    """Weights & Biases.

    Args:
        project: name of the W&B project.
        mode: `"online"`, `"offline"` or `"disabled"`.

    Raises:
        ConfigError: wandb is not installed, or there is no such mode.
    """
    if mode not in _MODES:
        raise ConfigError(f"logger wandb: mode={mode!r}; allowed: {', '.join(_MODES)}")
    need("wandb", "wandb")
    return WandB(project, mode)
