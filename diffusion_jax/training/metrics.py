"""Everything a run records: TensorBoard events, `metrics.jsonl`, the parameter table.

clu's writers do the work. clu 0.0.12 imports TensorFlow for one writer that is not used here; a
placeholder for that module makes the others importable without it.
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

    `seconds` counts all starts of the run. (Once it counted each from its first line: where it
    falls from one line to the next, the run was started again.) A last line that was torn (full
    disk, power cut) is ended, so that it spoils no other.

    Args:
        path: of the file.
        start: when the clock was at 0, as `time.monotonic` tells it.
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
        """Images do not go into the text file."""

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _forget(path: Path, step: int) -> tuple[dict[str, float], float]:
    """Takes out of a file the lines after `step`.

    Returns the values at `step`, and the seconds of the last line that stays.

    Lines that cannot be read stay; whoever reads the file counts them.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept, found, seconds = [], {}, 0.0
    for line in lines:
        try:
            row = json.loads(line)
            at = int(row["step"])
        except (ValueError, TypeError, KeyError):
            kept.append(line)
            continue
        if at <= step:
            kept.append(line)
            told = row.get("seconds")
            seconds = float(told) if isinstance(told, int | float) else seconds
        if at == step:
            found |= row
    if len(kept) < len(lines):
        write(path, b"".join(kept))
    return found, seconds


class _Events:
    """TensorBoard event files through tensorboardX, which needs no TensorFlow.

    A name of its own for every file: by the time alone, a clock that jumps back would make two the
    same. What earlier files hold after `step` is hidden.
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
    """What a thread of clu's could not write is raised as what it was: a full disk, say."""
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
        more: opens what is to record beside the files (`loggers`), or gives None.

    Attributes:
        found: what has been written at the latest step, by name.
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
        """Forgets what was written after `step`, because these steps are made once more."""
        if self._spool is not None:
            if self._to is not None:
                self._to.close()
                self._to = None
            self._step = step
            self.found, seconds = _forget(self._spool.folder / _LINES, step)
            if self._before is None:  # after a rollback this start's clock goes on
                self._before = seconds
            self._spool.changed(_LINES)

    def _open(self) -> Any:
        if self._to is None and self._spool is not None:
            folder = self._spool.folder
            lines = _Lines(folder / _LINES, self._start - (self._before or 0.0))
            files = [lines, _Events(folder, self._step)]
            further = self._more()
            files += [] if further is None else [further]
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
        """Waits until everything is where it belongs."""
        if self._to is not None:
            with _in_time():
                self._to.flush()
        if self._spool is not None:
            self._spool.send()

    def close(self) -> None:
        """Flushes and closes; a failed asynchronous write surfaces here."""
        try:
            if self._to is not None:
                with _in_time():
                    self._to.close()
        finally:
            if self._spool is not None:
                self._spool.close()


def parameter_table(params: Any) -> str:
    """A table of all parameters with shapes and sizes, by clu."""
    from clu import parameter_overview

    return parameter_overview.get_parameter_overview(params, include_stats=False)
