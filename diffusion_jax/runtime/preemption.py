"""Shutdown requests: SIGTERM or Ctrl-C on one machine, JAX's preemption service in a cluster.

In a cluster every process asks about every step, and all agree on the step to stop after; a signal
to one of them is enough. On one machine, work without state (validation, sampling) is interrupted
at once, and training stops after the current step. A second Ctrl-C ends the process.
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
            first: the first step that has not been asked about.
            last: the last completed step.

        Returns:
            True once a request has arrived.
        """
        if jax.process_count() == 1:
            return self._seen
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        # Not a generator in any(): the service must be asked about every single step.
        answers = [reached_preemption_sync_point(step) for step in range(first, last + 1)]
        return any(answers)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Allows the work in this block to be interrupted; in a cluster it is always completed.

        Yields:
            Nothing.

        Raises:
            Preempted: a request has arrived.
        """
        self._at_once = jax.process_count() == 1
        try:
            self._raise()
            yield
            self._raise()  # again, in case it was raised where exceptions are lost: in a destructor
        finally:
            self._at_once = False

    def _raise(self) -> None:
        if self._seen and self._at_once:
            raise Preempted(
                "preempted; the last checkpoint is kept: run the same command to resume"
            )

    def _handle(self, number: int, frame: Any) -> None:
        self._seen = True
        if number == signal.SIGINT:
            _last_warning()
        self._raise()


def _last_warning() -> None:
    """Restores the default handler, so that a second Ctrl-C ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.write(2, b"\nstopping and saving; Ctrl-C again ends the program at once\n")


def _pass_on(number: int, frame: Any) -> None:
    """Turns Ctrl-C into SIGTERM, which the preemption service of a cluster listens for."""
    _last_warning()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def listening() -> Iterator[Notice]:
    """Installs handlers for SIGTERM and Ctrl-C; in a cluster JAX's service handles SIGTERM.

    Yields:
        The notice.
    """
    notice = Notice()
    alone = jax.process_count() == 1
    handlers = {signal.SIGINT: notice._handle if alone else _pass_on}
    if alone:
        handlers[signal.SIGTERM] = notice._handle
    if threading.current_thread() is not threading.main_thread():
        handlers = {}  # only the main thread can handle signals
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield notice
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
