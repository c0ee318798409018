"""The default: only the work directory's `metrics.jsonl` and TensorBoard events."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Files:
    """See the module docstring."""

    def open(self, workdir: Path, config: Mapping[str, Any]) -> None:
        """Returns None."""


def make() -> Files:
    """The run's own files only."""
    return Files()
