"""The records of a run: TensorBoard events, `metrics.jsonl`, the parameter table.

They are written by clu. clu 0.0.12 imports TensorFlow for a writer that is not used here; a
placeholder for that module makes the others importable without TensorFlow.
"""

import contextlib
import json
import sys
import time
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.runtime.formatting import json_text
from diffusion_jax.runtime.storage import write
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

    `seconds` is cumulative over all starts of the run. (In files of earlier versions it restarts
    from 0: where it decreases from one line to the next, the run was started again.) An incomplete
    last line (full disk, power cut) is ended, so that the next one is readable.

    Args:
        path: path of the file.
        start: value of `time.monotonic` at which `seconds` is 0.
    """

    def __init__(self, path: Path, start: float):
        torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file, self._start = path.open("a", buffering=1), start
        if torn:
            self._file.write("\n")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        row = {k: float(v) for k, v in scalars.items()}
        seconds = round(time.monotonic() - self._start, 3)
        self._file.write(json_text({"step": step, "seconds": seconds, **row}) + "\n")

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Does nothing: the text file has no images."""

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _forget(path: Path, step: int) -> tuple[dict[str, float], float]:
    """Drops the lines after `step`; returns the values logged at `step` and the last `seconds`.

    Unreadable lines are kept; readers of the file count them.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept, values, seconds = [], {}, 0.0
    for line in lines:
        try:
            row = json.loads(line)
            at = int(row["step"])
        except (ValueError, TypeError, KeyError):
            kept.append(line)
            continue
        if at <= step:
            kept.append(line)
            logged = row.get("seconds")
            seconds = float(logged) if isinstance(logged, int | float) else seconds
        if at == step:
            values |= row
    if len(kept) < len(lines):
        write(path, b"".join(kept))
    return values, seconds


class _Events:
    """TensorBoard event files through tensorboardX, which needs no TensorFlow.

    File names do not rely on the clock alone, which may jump back. Events after `step` in earlier
    files are hidden.
    """

    def __init__(self, folder: Path, step: int | None):
        from tensorboardX import SummaryWriter

        after = {} if step is None else {"purge_step": step + 1}
        self._to = SummaryWriter(str(folder), filename_suffix=f".{uuid.uuid4().hex[:8]}", **after)

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


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """Re-raises errors of clu's writer threads as the original `OSError`, such as a full disk."""
    try:
        yield
    except Exception as e:
        first: BaseException = e
        while first.__cause__ is not None:
            first = first.__cause__
        if isinstance(first, OSError) and first is not e:
            raise first from None
        raise


class Writer:
    """Scalars to `metrics.jsonl` and TensorBoard, images to TensorBoard.

    Args:
        workdir: where the files go; None writes nothing (processes other than the first).
        check: called before anything goes into a bucket; raises if this process may no longer
            write.
        more: opens a further sink (see `loggers`), or returns None.

    Attributes:
        found: the values written at the latest step, by name.
    """

    def __init__(
        self,
        workdir: Path | None,
        check: Callable[[], None] | None = None,
        more: Callable[[], Any] = lambda: None,
    ):
        self._to, self._step, self.found, self._more = None, None, {}, more
        self._start, self._before = time.monotonic(), None
        self._spool = None if workdir is None else Spool(workdir, [_LINES], check)

    def go_on(self, step: int) -> None:
        """Discards what was written after `step`, because these steps will be repeated."""
        if self._spool is not None:
            if self._to is not None:
                self._to.close()
                self._to = None
            self._step = step
            self.found, seconds = _forget(self._spool.folder / _LINES, step)
            if self._before is None:  # after a rollback the clock of this start continues
                self._before = seconds
            self._spool.changed(_LINES)

    def _open(self) -> Any:
        if self._to is None and self._spool is not None:
            folder = self._spool.folder
            lines = _Lines(folder / _LINES, self._start - (self._before or 0.0))
            files = [lines, _Events(folder, self._step)]
            sink = self._more()
            files += [] if sink is None else [sink]
            self._to = _clu_writers().AsyncMultiWriter(files)
        return self._to

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes scalars at `step`."""
        to = self._open()
        if to is not None:
            self.found = {**(self.found if step == self._step else {}), **values}
            self._step = step
            with _in_time():
                to.write_scalars(step, values)
            if self._spool.due():
                self.flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes one uint8 image `[H, W, C]`."""
        to = self._open()
        if to is not None:
            with _in_time():
                to.write_images(step, {name: image})

    def flush(self) -> None:
        """Waits until everything has been written."""
        if self._to is not None:
            with _in_time():
                self._to.flush()
        if self._spool is not None:
            self._spool.send()

    def close(self) -> None:
        """Flushes and closes; a failed asynchronous write is raised here."""
        try:
            if self._to is not None:
                with _in_time():
                    self._to.close()
        finally:
            if self._spool is not None:
                self._spool.close()


def parameter_table(params: Any) -> str:
    """A table of all parameters with shapes and sizes."""
    from clu import parameter_overview

    return parameter_overview.get_parameter_overview(params, include_stats=False)
