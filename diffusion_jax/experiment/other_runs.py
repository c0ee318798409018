"""Other runs named by a setting; if one does not exist, the error says how to make it."""

from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_jax import packaged, registry, saved_config
from diffusion_jax.errors import ConfigError
from diffusion_jax.runtime.run_folders import missing, missing_step
from diffusion_jax.runtime.storage import place

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


def saved(setting: str, path: str, kind: str | None, data: str = "", also: str = "") -> Path:
    """The saved configuration of the run at `path`.

    Args:
        setting: the setting that names it, for the message.
        path: the run.
        kind: kind of run, as for `packaged.command`; None if a new one would not help.
        data: plug-in string of the data that it should be of; empty for any.
        also: other values of the setting, in words.

    Raises:
        ConfigError: there is no run.
    """
    found = saved_config.find(place(path)) if path else None
    if found is None:
        name = registry.parse(data).name if data else ""
        what = (missing_step(path) or missing(path)) if path else "it names no run"
        where = f"{setting}={path!r}: {what}"
        made = "" if kind is None else packaged.command(kind, name, path or "runs/NAME")
        raise ConfigError(f"{where}{also}{made}")
    return found


def opened(
    setting: str, path: str, kind: str | None, data_dir: str = "", data: str = "", also: str = ""
) -> "Experiment":
    """Opens the run at `path`; the arguments are those of `saved`."""
    from diffusion_jax.experiment import open_run

    saved(setting, path, kind, data, also)
    return open_run(path, data_dir=data_dir)
