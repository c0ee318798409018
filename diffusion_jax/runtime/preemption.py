"""Notice of the end: SIGTERM or Ctrl-C on one machine, JAX's preemption service in a cluster.

Within a cluster every process asks about every step, and all agree on the step to stop after; a
signal to one of them is enough. On one machine work that keeps no state (validation, sampling) is
interrupted at once; training stops after the step at hand. A second Ctrl-C ends the process.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from diffusion_jax.errors import Preempted


class Notice:
    """Whether this run has been asked to stop; made by `listening`."""

    def __init__(self) -> None:
        self._seen, self._at_once = False, False

    def reached(self, first: int, last: int) -> bool:
        """Whether to stop after step `last`; every process asks about the same steps.

        Args:
            first: the first step not asked about yet.
            last: the step just made.

        Returns:
            True once a notice has arrived.
        """
        if jax.process_count() == 1:
            return self._seen
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        # Not a generator in any(): the service must be asked about every single step.
        answers = [reached_preemption_sync_point(step) for step in range(first, last + 1)]
        return any(answers)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work to give up at once; a cluster finishes it, because all take part in it.

        Yields:
            Nothing.

        Raises:
            Preempted: a notice has arrived.
        """
        self._at_once = jax.process_count() == 1
        try:
            self._raise()
            yield
            self._raise()  # one that was raised where Python drops exceptions, as in a destructor
        finally:
            self._at_once = False

    def _raise(self) -> None:
        if self._seen and self._at_once:
            raise Preempted("preempted; the last checkpoint is kept, and the same command goes on")

    def _handle(self, number: int, frame: Any) -> None:
        self._seen = True
        if number == signal.SIGINT:
            _last_warning()
        self._raise()


def _last_warning() -> None:
    """The next Ctrl-C is the system's, which ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.write(2, b"\nstopping and saving; Ctrl-C again ends the program at once\n")


def _pass_on(number: int, frame: Any) -> None:
    """Ctrl-C in a cluster: the preemption service listens for SIGTERM."""
    _last_warning()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def listening() -> Iterator[Notice]:
    """Installs handlers of SIGTERM and Ctrl-C; in a cluster JAX's service sees to SIGTERM.

    Yields:
        The notice.
    """
    notice = Notice()
    alone = jax.process_count() == 1
    handlers = {signal.SIGINT: notice._handle if alone else _pass_on}
    if alone:
        handlers[signal.SIGTERM] = notice._handle
    if threading.current_thread() is not threading.main_thread():
        handlers = {}  # signals are the main thread's
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield notice
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
