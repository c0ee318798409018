"""A run that outlives its slices: watch, restart, create again, and delete at the end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from launch.gang import Gang, verdict
from launch.gcloud import Blip, CloudError, NoCapacity, say

QUEUED = 75  # exit code: the request still waits; the same command goes on


class StillQueued(Exception):
    """The slice did not come within the time allowed; the request was left in the queue."""


@dataclass
class Sitter:
    """The watch over one run.

    Attributes:
        gang: the run.
        poll: seconds between looks.
        backoff: seconds before the first restart after a crash; four times more for each next.
        failures_allowed: crashes without a newer checkpoint in between.
        silence: looks without an answer from all hosts before the slice is taken as broken.
        sleep: waits.
        ours: whether the slice may be deleted: it was not ready when this program came, or a run
            was started on it.
    """

    gang: Gang
    poll: float = 60.0
    backoff: float = 30.0
    failures_allowed: int = 3
    silence: int = 10
    sleep: Callable[[float], None] = time.sleep
    ours: bool = field(default=False, init=False)
    _failures: int = field(default=0, init=False)
    _best: int = field(default=-1, init=False)

    @property
    def _backend(self) -> Any:
        return self.gang.backend

    def run(self) -> int:
        """Watches until the run is done or hopeless.

        Returns:
            The run's exit code.

        Raises:
            StillQueued: no slice within its `wait_hours`.
            Busy: somebody else's run is on the slice.
        """
        self._note_progress()
        while True:
            code = 1
            try:
                up(self._backend, self.poll, self.sleep, self._found)
                self.gang.start()
                self.ours = True
                what, code = self._watch()
            except CloudError as e:
                say(f"cloud: {e}")
                what = "refused"
            except Blip as e:
                say(f"no answer from the cloud, trying on: {e}")
                self.sleep(self.poll)
                continue
            say(f"run {self.gang.unit}: {what}" + (f", exit code {code}" if code else ""))
            if what in ("done", "mistake"):
                return code
            if what == "lost":
                continue  # `up` deletes what is left and asks for a new slice: free of charge
            if what != "refused":
                self.gang.stop()
            if what == "preempted":
                self.sleep(self.poll)  # a dying slice is seen as such by then
                continue
            if not self._may_go_on():
                say(f"{self._failures} failures without a newer checkpoint: giving up")
                return code
            if what == "unreachable":
                down(self._backend, self.poll, self.sleep)

    def _found(self, state: str) -> None:
        self.ours = self.ours or state != "ready"

    def _watch(self) -> tuple[str, int]:
        """Looks until something has happened to the slice or to the run."""
        silent = waiting = 0
        while True:
            self.sleep(self.poll)
            try:
                if self._backend.state() in ("dead", "failed", "none"):
                    return "lost", 0
                what, code = verdict(self.gang.ask(), self.gang.unit, self._backend.slice.hosts)
            except Blip as e:
                say(f"no answer from the cloud, looking on: {e}")
                continue
            silent = silent + 1 if what == "unreachable" else 0
            waiting = waiting + 1 if what == "finishing" else 0
            if (
                what in ("running", "finishing", "unreachable")
                and max(silent, waiting) < self.silence
            ):
                continue
            return ("crashed", 1) if what == "finishing" else (what, code)

    def _note_progress(self) -> bool:
        step = self.gang.newest_step()
        if step is None or step <= self._best:
            return False
        self._best = step
        return True

    def _may_go_on(self) -> bool:
        """Counts a failure, unless the newest checkpoint has moved; waits before the next try."""
        if self._note_progress():
            self._failures = 0
        self._failures += 1
        if self._failures >= self.failures_allowed:
            return False
        self.sleep(self.backoff * 4 ** (self._failures - 1))
        return True


def up(
    backend: Any,
    poll: float,
    sleep: Callable[[float], None],
    found: Callable[[str], None] = lambda state: None,
) -> None:
    """Creates the slice, or takes the one there is, and waits until it is ready.

    Args:
        backend: the slice.
        poll: seconds between looks.
        sleep: waits.
        found: is told each state that is seen.

    Raises:
        StillQueued: it did not come within `wait_hours`; the request was left in the queue.
        CloudError: the request failed.
    """
    deadline = time.monotonic() + 3600 * backend.slice.wait_hours
    asked = False
    while True:
        state = backend.state()
        found(state)
        if backend.gcloud.dry_run:
            backend.create()
            return
        if state == "ready":
            return
        if state == "failed" and asked:
            raise CloudError(f"the request for {backend.slice.name} has failed; see its `describe`")
        if state in ("dead", "failed"):
            say(f"{backend.slice.name} is {state}: deleting it")
            down(backend, poll, sleep)
            state = "none"
        if state == "none":
            try:
                backend.create()
                asked = True
            except NoCapacity as e:
                say(f"no capacity, asking again in {poll:g} s: {e}")
        if time.monotonic() > deadline:
            raise StillQueued(backend.slice.name)
        sleep(poll)


def down(backend: Any, poll: float, sleep: Callable[[float], None]) -> None:
    """Deletes the slice and waits until it is gone; fine if there is none.

    Args:
        backend: the slice.
        poll: seconds between looks.
        sleep: waits.

    Raises:
        CloudError: it could not be deleted.
    """
    for command in backend.delete_commands(backend.slice.name):
        backend.gcloud.change(command, absent_is_fine=True)
    if backend.gcloud.dry_run:
        return
    for _ in range(60):
        if backend.state() == "none":
            return
        sleep(min(poll, 10.0))
    raise CloudError(f"{backend.slice.name} is still there; delete it by hand")
