"""A headless Chromium for tests, spoken to in the DevTools protocol over a pipe."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
         "chromium-headless-shell")  # fmt: skip
# Without these a browser talks to servers of its own accord.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--remote-debugging-pipe", "--hide-scrollbars")  # fmt: skip

# The protocol wants file descriptors 3 and 4, whatever numbers the pipes have here.
LAUNCH = """
import fcntl, os, sys
ours = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]]
os.dup2(ours[0], 3)
os.dup2(ours[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find():
    """The browser: $DIFFUSION_JAX_BROWSER, or one on the path; None without."""
    named = os.environ.get("DIFFUSION_JAX_BROWSER", "")
    return named or next((p for n in NAMES if (p := shutil.which(n))), None)


class Browser:
    """One page of a browser of its own; use it in a `with` block."""

    def __init__(self, program, folder):
        self._program, self._folder = program, folder
        self._rest, self._number, self.events, self._session = b"", 0, [], None

    def __enter__(self):
        to_it, self._to = os.pipe()
        self._from, from_it = os.pipe()
        command = [sys.executable, "-c", LAUNCH, str(to_it), str(from_it), self._program, *FLAGS,
                   f"--user-data-dir={self._folder}", "about:blank"]  # fmt: skip
        self._process = subprocess.Popen(
            command, pass_fds=(to_it, from_it), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(to_it)
        os.close(from_it)
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            found = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = found["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_):
        self._end()

    def _end(self):
        """Kills the browser with all its processes: they are a group of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def call(self, method, **params):
        """Calls a method of the protocol; what the page says meanwhile goes to `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        left = memoryview(json.dumps(message).encode() + b"\0")
        while left:
            left = left[os.write(self._to, left) :]
        while True:
            found = self._read()
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
            self.events.append(found)

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)  # fmt: skip
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def open(self, address, deadline=300.0):
        """Loads a page, and waits until it and all its images are there."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        ready = (
            "document.readyState == 'complete' && location.href != 'about:blank'"
            " && [...document.images].every(i => i.complete)"
        )
        end = time.monotonic() + deadline
        while not self.evaluate(ready):
            if time.monotonic() > end:
                raise TimeoutError(f"{address} did not load in {deadline:.0f} s")
            time.sleep(0.1)

    def view(self, width, height=900, scheme="light"):
        """Sets the size of the window and the colour scheme of the system."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        # A mobile view would zoom out until a page that is too wide fits.
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path, whole=True):
        """Writes a PNG of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(found["data"]))
