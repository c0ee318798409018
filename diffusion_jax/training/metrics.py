"""Everything a run records: TensorBoard events, `metrics.jsonl`, the parameter table.

clu's writers do the work. clu 0.0.12 imports TensorFlow for one writer that is not used here; a
placeholder for that module makes the others importable without it.
"""

import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.runtime.wording import json_text
from diffusion_jax.training.append_log import Spool

_LINES = "metrics.jsonl"


def _clu_writers() -> Any:
    name = "clu.metric_writers.summary_writer"
    if name not in sys.modules:
        placeholder = types.ModuleType(name)
        placeholder.SummaryWriter = None
        sys.modules[name] = placeholder
    from clu import metric_writers

    return metric_writers


class _Lines:
    """Appends one JSON object per call to a file.

    `seconds` counts from the opening of the file: where it falls from one line to the next, the run
    was started again. A last line that was torn (full disk, power cut) is ended, so that it spoils
    no other.
    """

    def __init__(self, path: Path):
        torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file, self._start = path.open("a", buffering=1), time.monotonic()
        if torn:
            self._file.write("\n")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        row = {k: float(v) for k, v in scalars.items()}
        seconds = round(time.monotonic() - self._start, 3)
        self._file.write(json_text({"step": step, "seconds": seconds, **row}) + "\n")

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Images do not go into the text file."""

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Events:
    """TensorBoard event files through tensorboardX, which needs no TensorFlow."""

    def __init__(self, folder: Path):
        from tensorboardX import SummaryWriter

        self._to = SummaryWriter(str(folder))

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        for k, v in scalars.items():
            self._to.add_scalar(k, float(v), step)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        for k, v in images.items():
            self._to.add_image(k, np.asarray(v), step, dataformats="HWC")

    def flush(self) -> None:
        self._to.flush()

    def close(self) -> None:
        self._to.close()


class Writer:
    """Scalars to `metrics.jsonl` and TensorBoard, images to TensorBoard.

    Args:
        workdir: where the files go; None writes nothing (processes other than the first).
        check: called before anything goes into a bucket; raises if this process may no longer
            write.
    """

    def __init__(self, workdir: Path | None, check: Callable[[], None] | None = None):
        self._to = None
        if workdir is not None:
            self._spool = Spool(workdir, [_LINES], check)
            files = [_Lines(self._spool.folder / _LINES), _Events(self._spool.folder)]
            self._to = _clu_writers().AsyncMultiWriter(files)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes scalars at `step`."""
        if self._to is not None:
            self._to.write_scalars(step, values)
            if self._spool.due():
                self.flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes one uint8 image `[H, W, C]`."""
        if self._to is not None:
            self._to.write_images(step, {name: image})

    def flush(self) -> None:
        """Waits until everything is where it belongs."""
        if self._to is not None:
            self._to.flush()
            self._spool.send()

    def close(self) -> None:
        """Flushes and closes; a failed asynchronous write surfaces here."""
        if self._to is not None:
            try:
                self._to.close()
            finally:
                self._spool.close()


def parameter_table(params: Any) -> str:
    """A table of all parameters with shapes and sizes, by clu."""
    from clu import parameter_overview

    return parameter_overview.get_parameter_overview(params, include_stats=False)
