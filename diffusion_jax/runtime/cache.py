"""Where what can be made again is kept."""

import os
from pathlib import Path


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
