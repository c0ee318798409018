"""The work directory of a run: claimed by one configuration."""

from typing import TYPE_CHECKING

import jax

from diffusion_jax import saved_config
from diffusion_jax.errors import WorkdirError
from diffusion_jax.runtime.storage import write_json
from diffusion_jax.training import restore

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


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
