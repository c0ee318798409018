"""The work directory of a run: claimed by one configuration."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from diffusion_jax import saved_config
from diffusion_jax.errors import WorkdirError
from diffusion_jax.runtime.storage import is_bucket, write_json
from diffusion_jax.training import restore

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

_PROBE = 2**20  # bytes, so that a full disk is noticed


def check_writable(folder: Path) -> None:
    """Refuses (`WorkdirError`) a folder that cannot be written to, before anything is computed.

    A file is written and removed: in the folder, or where it would be made.
    """
    if jax.process_index():
        return
    where = folder
    while not is_bucket(where) and not where.exists() and where != where.parent:
        where = where.parent
    probe = where / f".writable-{os.getpid()}"
    try:
        if where.is_file():
            raise NotADirectoryError(f"{where} is a file")
        try:
            probe.write_bytes(bytes(_PROBE))
        finally:
            probe.unlink(missing_ok=True)
    except Exception as e:  # OSError; a bucket's client has types of its own
        raise WorkdirError(f"cannot write to {folder}: {restore.short(e)}") from e


def prepare_workdir(experiment: "Experiment") -> None:
    """Claims the work directory for this configuration, or confirms that it is its own.

    Raises:
        WorkdirError: the directory belongs to a run with another configuration (the message lists
            the fields that differ), or cannot be written.
    """
    path = experiment.workdir / "config.json"
    if path.exists():
        changed = saved_config.differences(saved_config.read(path), experiment.config)
        if changed:
            raise WorkdirError(
                f"{experiment.workdir} belongs to a run with another configuration "
                f"({'; '.join(changed)}); use a new --workdir, or the old settings"
            )
    elif (experiment.workdir / restore.FOLDER).exists():
        raise WorkdirError(
            f"{experiment.workdir} has checkpoints but no config.json; use a new "
            "--workdir, or restore it"
        )
    if jax.process_index() == 0:
        try:
            experiment.workdir.mkdir(parents=True, exist_ok=True)
            write_json(path, saved_config.to_dict(experiment.config))
        except Exception as e:  # OSError; a bucket's client has types of its own
            raise WorkdirError(f"cannot write to {experiment.workdir}: {restore.short(e)}") from e
