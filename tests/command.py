"""The program as users start it."""

import os
import re
import subprocess
import sys

import tiny
from conftest import REPO


def main(*args, timeout=600, **env):
    return subprocess.run(
        [sys.executable, "-m", "diffusion_jax.main", *map(str, args)],
        capture_output=True, text=True, cwd=REPO, timeout=timeout,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **env},
    )  # fmt: skip


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
