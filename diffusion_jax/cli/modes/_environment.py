"""Hardware and software of a run: one line of `environment.jsonl` for each start."""

import importlib.metadata
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

import diffusion_jax
from diffusion_jax.runtime import cores
from diffusion_jax.runtime.distributed import describe_devices
from diffusion_jax.runtime.storage import write

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
FILE = "environment.jsonl"


def describe() -> dict[str, Any]:
    """Versions and hardware of this process, without names of machines or people."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "devices": describe_devices(),
        "processes": jax.process_count(),
        "processor": _processor(),
        "cores": cores.available(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "diffusion_jax": diffusion_jax.__version__,
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def note(workdir: Path, step: int) -> None:
    """Appends a line for this start of the run at `step`; only on the first process."""
    if jax.process_index() == 0:
        path = workdir / FILE
        before = path.read_bytes() if path.exists() else b""  # a bucket cannot append
        write(path, before + (json.dumps({"step": step, **describe()}) + "\n").encode())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
