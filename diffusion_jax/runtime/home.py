"""Paths that begin with `~`."""

import os
from pathlib import Path

from diffusion_jax.errors import ConfigError, UserError


def expanded(path: str | os.PathLike, error: type[UserError] = ConfigError) -> Path:
    """The path with `~` or `~name` replaced by the home folder.

    Args:
        path: path of a local file or folder.
        error: type of the exception to raise.

    Raises:
        UserError: of type `error`: there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as e:
        home = Path(path).parts[0]
        raise error(f"cannot use the path {path}: there is no home folder {home} here; write the "
                    f"folder out, or ./{home} for one of that name") from e  # fmt: skip
