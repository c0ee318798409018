"""Paths that begin with `~`."""

import os
from pathlib import Path

from diffusion_jax.errors import ConfigError, UserError


def expanded(path: str | os.PathLike, error: type[UserError] = ConfigError) -> Path:
    """The path, with the home folder in place of `~` or `~name`.

    Args:
        path: of a file or folder on a disk.
        error: what to raise.

    Raises:
        UserError: `error`: there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as e:
        whose = Path(path).parts[0]
        raise error(f"cannot use the path {path}: there is no home folder {whose} here; write the "
                    f"folder out, or ./{whose} for one of that name") from e  # fmt: skip
