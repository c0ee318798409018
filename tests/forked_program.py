"""The test's side of `fork_server.py`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

from conftest import REPO

# Every run compiles the same programs; the first one leaves them to the others.
_CACHED = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


class ForkedProgram:
    """Runs of the program, one after the other; see `fork_server.py`."""

    def __init__(self, log):
        self.log, self.pid = log, None
        self._to = subprocess.Popen(
            [sys.executable, str(REPO / "tests" / "fork_server.py")], cwd=REPO, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPO), **_CACHED},
        )  # fmt: skip

    def start(self, *argv, **env):
        """Starts a run; its process id."""
        asked = {"log": str(self.log), "argv": [str(a) for a in argv], "env": env}
        self._to.stdin.write(json.dumps(asked) + "\n")
        self._to.stdin.flush()
        self.pid = int(self._answer("pid"))
        return self.pid

    def end(self):
        """Waits for it; its exit code."""
        code = int(self._answer("code"))
        self.pid = None
        return code

    def run(self, *argv, **env):
        """A whole run: its exit code, and what it printed."""
        before = self.log.stat().st_size if self.log.exists() else 0
        self.start(*argv, **env)
        code = self.end()
        return code, self.log.read_bytes()[before:].decode()

    def alive(self):
        """Whether the run that was started is not over."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _answer(self, word):
        timer = threading.Timer(300, self._to.kill)
        timer.start()
        try:
            while line := self._to.stdout.readline():
                if line.startswith(word):
                    return line.split()[1]
        finally:
            timer.cancel()
        raise AssertionError(self.log.read_text())

    def close(self):
        """Ends the program, and a run that a failed test has left."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._to.kill()
        self._to.communicate()
