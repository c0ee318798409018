"""The program as users start it."""

import os
import subprocess
import sys

from conftest import REPO


def main(*args, timeout=600, **env):
    return subprocess.run(
        [sys.executable, "-m", "diffusion_jax.main", *map(str, args)],
        capture_output=True, text=True, cwd=REPO, timeout=timeout,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **env},
    )  # fmt: skip
