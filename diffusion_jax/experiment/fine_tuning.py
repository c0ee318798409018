"""Fine-tuning: initial weights from another run, `config.init`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from diffusion_jax import saved_config
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import exported, latents, other_runs, teachers
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.sharding import local, replicated
from diffusion_jax.runtime.storage import place
from diffusion_jax.training import restore
from diffusion_jax.training.state import ema_key, path_of
from diffusion_jax.types import Params

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

_NAMED = 8  # maximum number of arrays that are listed by name


def read(experiment: "Experiment", wanted: Params) -> dict[str, np.ndarray]:
    """The arrays of `config.init` that fit, by path; prints which do not.

    Uses the first weight average of the newest checkpoint; that run's data are not needed.

    Args:
        experiment: the new run.
        wanted: arrays or shapes of its weights.

    Returns:
        The arrays; empty without `config.init`, or if this run has begun already.

    Raises:
        ConfigError: none fits, or the run is this one.
        CheckpointError: there is no readable checkpoint.
    """
    c, named = experiment.config, experiment.config.init
    if _has_begun(experiment):
        return {}
    if not named:
        return {**latents.read(experiment, wanted), **teachers.read(experiment)}
    where = place(named)
    if where == experiment.workdir:
        raise ConfigError(f"init={named} is the work directory itself; use another --workdir")
    other_runs.saved("init", named, "", c.data)

    def read_one(folder: Path) -> tuple[dict[str, Any], Params]:
        meta = restore.read_meta(folder)
        name = ema_key(meta["config"]["ema"][0])
        with ocp.PyTreeCheckpointer() as reader:
            saved = restore.saved_tree(reader, folder / "ema")[name]
        like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), saved)
        return meta, restore.read_weights(folder, like, name, replicated(experiment.mesh))

    if exported.is_exported(where):
        config = saved_config.read(where / "config.json")
        folder, meta = where, {"config": saved_config.to_dict(config)}
        theirs = exported.arrays(where)
    else:
        (meta, params), folder = restore.restore_newest(where, read_one)
        theirs = _by_path(local(params))
    mine = _by_path(wanted)
    fit = {k: np.asarray(a) for k, a in theirs.items() if k in mine and mine[k].shape == a.shape}
    if not any(k.startswith(("network", "autoencoder")) for k in fit):
        raise ConfigError(
            f"init={named}: no weights of that run fit network={c.network}; it has "
            f"network={meta['config']['network']}"
        )
    say(f"starting from {len(fit)} arrays of {folder}")
    _say_names("newly initialised, missing from that run", mine.keys() - fit.keys())
    _say_names("skipped, not in this model", theirs.keys() - fit.keys())
    for line in saved_config.other_meaning(saved_config.from_dict(meta["config"]), c):
        say(f"  differs from that run: {line}")
    return {**teachers.read(experiment), **fit, **latents.read(experiment, wanted)}


def _has_begun(experiment: "Experiment") -> bool:
    try:
        return bool(restore.locate(experiment.workdir))
    except CheckpointError:
        return False


def _by_path(tree: Params) -> dict[str, Any]:
    return {path_of(path): a for path, a in jax.tree_util.tree_leaves_with_path(tree)}


def _say_names(what: str, names: set[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        say(f"  {len(names)} arrays are {what}: {shown}")
