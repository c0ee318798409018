"""Shows the progress of a loop: a live bar on a terminal, otherwise a log line now and then."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """Reports the progress of a loop; made by `progress`."""

    def __init__(self, bar: Any, task: Any, total: int, label: str, every: float):
        self._bar, self._task, self._total, self._label = bar, task, total, label
        self._every, self._start = every, time.monotonic()
        self._said, self._first = self._start, None

    def at(self, done: int, note: str = "") -> None:
        """Reports progress.

        Args:
            done: amount of work done.
            note: a few words to show beside it, such as the loss.
        """
        now = time.monotonic()
        if self._first is None:
            # The first report comes after compilation; rates are measured from there.
            self._first, self._start = done, now
        rate = (done - self._first) / max(now - self._start, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note, rate=f"{rate:.2f}/s")
        elif now - self._said >= self._every or (done >= self._total and self._every < math.inf):
            self._said = now
            left = f"{(self._total - done) / rate:.0f}s left" if rate > 0 else ""
            speed = f"{rate:.2f}/s" if rate > 0 else ""
            parts = (f"{self._label} {done}/{self._total}", speed, left, note)
            print("  ".join(p for p in parts if p), file=sys.stderr, flush=True)


@contextmanager
def progress(
    label: str, total: int, start: int = 0, every: float = 10.0, show: bool = True
) -> Iterator[Progress]:
    """A progress report for a loop.

    Args:
        label: what is being done.
        total: amount of work.
        start: amount done already.
        every: seconds between log lines when there is no terminal.
        show: whether to report at all.

    Yields:
        The `Progress` to call `at` on.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bar,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield Progress(None, None, total, label, every if show else math.inf)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(label, total=total, completed=start, note="", rate="")
        yield Progress(bar, task, total, label, every)
