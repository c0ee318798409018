"""The program: as users start it, and as a function of this process, which is what costs little."""

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
from unittest import mock

import tiny
from absl import logging
from absl.testing import flagsaver

# Defines flags: those that are defined within a command line go with it.
from array_record.python import array_record_data_source  # noqa: F401
from conftest import REPO


def program(*args, timeout=600, **env):
    """A process of its own, where that is the point: its devices, its end, what others see."""
    return subprocess.run(
        [sys.executable, "-m", "diffusion_jax.main", *map(str, args)],
        capture_output=True, text=True, cwd=REPO, timeout=timeout,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **env},
    )  # fmt: skip


def main(*args):
    """The same command line without a process: no import, no new devices, compiled once.

    An exception that the program does not catch is the test's.
    """
    from diffusion_jax import main as lines

    argv, out, err, code = ["diffusion_jax.main", *map(str, args)], io.StringIO(), io.StringIO(), 0
    with _as_it_was(argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            lines._main(lines._parse(argv))
        except SystemExit as e:
            code = e.code or 0
            if isinstance(code, str):
                print(code, file=sys.stderr)
                code = 1
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _as_it_was(argv):
    """Puts back what a command line changes in a process: flags, hooks, folder, verbosity."""
    hooks, verbosity = (sys.excepthook, threading.excepthook), logging.get_verbosity()
    before, sys.argv = sys.argv, argv  # where ml_collections looks for overrides
    trusted = mock.patch.dict(os.environ)  # put back at its end
    with flagsaver.flagsaver(), contextlib.chdir(REPO), trusted:
        try:
            yield
        finally:
            sys.argv = before
            sys.excepthook, threading.excepthook = hooks
            logging.set_verbosity(verbosity)


def refused(done, message, code=2):
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(message, lines[0]), lines[0]


def config_file(folder, **changes):
    """A configuration file on disk with the tiny job in it."""
    values = tiny.config(folder, **changes).to_json()
    path = folder / "tiny_config.py"
    path.write_text(
        "import json\nfrom diffusion_jax import saved_config\n"
        f"def get_config(variant=''):\n    return saved_config.from_dict(json.loads({values!r}))\n"
    )
    return path
