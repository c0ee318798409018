"""The cache: compiled programs, and other files that can be made again.

The second start of a job does not compile again.
"""

import contextlib
import hashlib
import os
import platform
import re
import warnings
from pathlib import Path
from typing import Any

_LIMIT = 4 * 2**30  # bytes; what was used longest ago goes first


def root() -> Path:
    """`$DIFFUSION_JAX_CACHE`, by default `~/.cache/diffusion_jax`.

    Returns:
        The folder, which need not exist.

    Raises:
        OSError: there is neither the variable nor a home.
    """
    try:
        named = os.environ.get("DIFFUSION_JAX_CACHE") or "~/.cache/diffusion_jax"
        return Path(named).expanduser()
    except RuntimeError as e:
        raise OSError("there is no home folder; set DIFFUSION_JAX_CACHE") from e


def _processor() -> str:
    """A name for what this machine's processor can do: programs for one CPU crash on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    told = " ".join(sorted(flags.partition(":")[2].split())) or platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def _mend(folder: Path) -> None:
    """Removes what a killed process has left half: jax would refuse to keep anything more."""
    for program in folder.glob("*-cache"):
        if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
            program.unlink(missing_ok=True)


def _mend_what_is_noticed(folder: Path) -> None:
    """Removes programs that cannot be read when JAX warns of them, in place of the warning.

    JAX compiles them anew but would not write over them, and warn at every start.
    """
    shown = warnings.showwarning

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        found = re.search(r"reading persistent compilation cache entry for '([^']+)'", str(message))
        if not found:
            shown(message, *rest, **more)
            return
        for path in folder.iterdir():
            if path.name.startswith(found[1].removesuffix("-cache") + "-"):
                path.unlink(missing_ok=True)

    warnings.showwarning = show


def remember() -> None:
    """Turns the persistent cache on, under `$DIFFUSION_JAX_CACHE/compiled`.

    Another folder (a bucket, say) is `JAX_COMPILATION_CACHE_DIR`; `JAX_ENABLE_COMPILATION_CACHE=0`
    turns it off. A folder that cannot be written is no reason to stop: jax then goes without.
    """
    import jax

    if jax.config.jax_compilation_cache_dir:
        return
    with contextlib.suppress(OSError):
        folder = root() / "compiled" / _processor()
        _mend(folder)
        _mend_what_is_noticed(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if jax.config.jax_compilation_cache_max_size < 0:
            jax.config.update("jax_compilation_cache_max_size", _LIMIT)
