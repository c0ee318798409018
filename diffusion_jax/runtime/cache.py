"""The cache of compiled programs and other files that can be recreated.

With it the second start of a job does not compile again.
"""

import contextlib
import hashlib
import os
import platform
import re
import warnings
from pathlib import Path
from typing import Any

_LIMIT = 4 * 2**30  # bytes; the least recently used programs are deleted first


def root() -> Path:
    """The cache folder: `$DIFFUSION_JAX_CACHE`, by default `~/.cache/diffusion_jax`.

    Returns:
        The folder, which need not exist.

    Raises:
        OSError: the variable is not set and there is no home folder.
    """
    try:
        named = os.environ.get("DIFFUSION_JAX_CACHE") or "~/.cache/diffusion_jax"
        return Path(named).expanduser()
    except RuntimeError as e:
        raise OSError("there is no home folder; set DIFFUSION_JAX_CACHE") from e


def _processor() -> str:
    """A name for this processor's instruction set: a program for one CPU may crash on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    features = " ".join(sorted(flags.partition(":")[2].split())) or platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"


def _remove_incomplete(folder: Path) -> None:
    """Removes incomplete entries of killed processes, which would keep jax from adding others."""
    for program in folder.glob("*-cache"):
        if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
            program.unlink(missing_ok=True)


def _remove_unreadable(folder: Path) -> None:
    """Removes unreadable programs when JAX warns about them, and suppresses the warning.

    JAX compiles them again but does not overwrite them, so it would warn at every start.
    """
    shown = warnings.showwarning

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        entry = re.search(r"reading persistent compilation cache entry for '([^']+)'", str(message))
        if not entry:
            shown(message, *rest, **more)
            return
        for path in folder.iterdir():
            if path.name.startswith(entry[1].removesuffix("-cache") + "-"):
                path.unlink(missing_ok=True)

    warnings.showwarning = show


def remember() -> None:
    """Turns the persistent cache on, under `$DIFFUSION_JAX_CACHE/compiled`.

    `JAX_COMPILATION_CACHE_DIR` selects another folder or a bucket, and
    `JAX_ENABLE_COMPILATION_CACHE=0` turns the cache off. If the folder is not writable, jax runs
    without a cache.
    """
    import jax

    if jax.config.jax_compilation_cache_dir:
        return
    with contextlib.suppress(OSError):
        folder = root() / "compiled" / _processor()
        _remove_incomplete(folder)
        _remove_unreadable(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if jax.config.jax_compilation_cache_max_size < 0:
            jax.config.update("jax_compilation_cache_max_size", _LIMIT)
