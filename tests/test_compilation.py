"""Compiled programs are found again by the next process."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import REPO

CODE = """
import jax, jax.numpy as jnp
from diffusion_jax.runtime import cache
cache.remember()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((7, 7))).block_until_ready()
print(hits.count("/jax/compilation_cache/cache_hits"), jax.config.jax_compilation_cache_dir)
"""


def start(**env):
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=REPO,
                          env={**kept, "JAX_PLATFORMS": "cpu", **env})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower() and "error" not in done.stderr.lower(), done.stderr
    hits, folder = done.stdout.split()
    return int(hits), folder


def test_the_second_process_compiles_nothing_again(tmp_path):
    hits, folder = start(DIFFUSION_JAX_CACHE=str(tmp_path))
    assert hits == 0 and folder.startswith(str(tmp_path / "compiled"))
    assert start(DIFFUSION_JAX_CACHE=str(tmp_path))[0] > 0


def test_a_folder_the_user_names_stays(tmp_path):
    assert start(JAX_COMPILATION_CACHE_DIR=str(tmp_path))[1] == str(tmp_path)


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    env = {"DIFFUSION_JAX_CACHE": str(tmp_path / "file"), "PYTHONWARNINGS": "ignore"}
    assert start(**env)[0] == 0


def test_a_half_written_program_does_not_spoil_the_cache(tmp_path):
    _, folder = start(DIFFUSION_JAX_CACHE=str(tmp_path))
    kept = sorted(Path(folder).glob("*-cache"))
    assert len(kept) > 1
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    for program in kept[1:]:  # as if killed between the two files
        program.with_name(program.name.removesuffix("-cache") + "-atime").unlink()
    assert start(DIFFUSION_JAX_CACHE=str(tmp_path))[0] == 0  # without a warning
    assert start(DIFFUSION_JAX_CACHE=str(tmp_path))[0] > 0
