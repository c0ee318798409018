"""The weights of a run: from the newest or best checkpoint, a given one, or a published one."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from ml_collections import ConfigDict

from diffusion_jax import saved_config
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import checkpoint_match, exported, posthoc_average
from diffusion_jax.networks.published import is_published
from diffusion_jax.runtime.sharding import put, replicated
from diffusion_jax.runtime.storage import place
from diffusion_jax.training import averages, restore
from diffusion_jax.types import Params

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


def adopt_published(config: ConfigDict, checkpoint: str, asked: Collection[str]) -> None:
    """Adopts the model settings of a published checkpoint; those set by the user must agree."""
    if not is_published(checkpoint):
        return
    own = published(checkpoint)[1].overrides
    for key in own.keys() & set(asked):
        if saved_config.meaning(key, own[key]) != saved_config.meaning(key, config[key]):
            raise ConfigError(
                f"{key}={config[key]!r}: {checkpoint} has {key}={own[key]!r}; leave it out"
            )
    config.update({k: v for k, v in own.items() if k not in asked})


def load(experiment: "Experiment", name: str) -> tuple[Params, dict[str, Any]]:
    """The weights called `name`, replicated over the mesh, and a record that describes them."""
    if is_published(experiment.checkpoint):
        return _imported(experiment, name)
    path = place(experiment.checkpoint) if experiment.checkpoint else experiment.workdir
    if exported.is_exported(path):
        trained = saved_config.read(path / "config.json")
        checkpoint_match.check_settings(experiment, path, saved_config.to_dict(trained))
        found = exported.load(experiment, path, name)
        checkpoint_match.check_classes(experiment, exported.card(path)["classes"])
        return found
    length = averages.wanted(name)

    def read(folder: Path) -> tuple[Params, dict[str, Any], list[str]]:
        meta = restore.read_meta(folder)
        checkpoint_match.check_settings(experiment, folder, meta.get("config"))
        whole = replicated(experiment.mesh)
        if length is None:
            params = restore.read_weights(folder, experiment.shapes(), name, whole)
        else:
            began = getattr(experiment.task, "began", lambda config, step: 0)
            params = posthoc_average.load(
                path, folder, length, experiment.shapes(), whole,
                began(experiment.config, meta["step"]),
            )  # fmt: skip
        found = {"step": meta["step"], "weights": name, "checkpoint": str(folder)}
        return params, found, meta.get("data", {}).get("classes", [])

    which = experiment.config.eval.checkpoint
    params, found, classes = restore.restore_newest(path, read, best=which == "best")[0]
    checkpoint_match.check_classes(experiment, classes)
    return params, found


def _imported(experiment: "Experiment", name: str) -> tuple[Params, dict[str, Any]]:
    path, found = published(experiment.checkpoint)
    raw = name == "params"
    params = found.params if raw else found.ema_params
    restore.check_finite(path, params)
    wanted = jax.tree.map(lambda a: a.shape, experiment.shapes())
    if jax.tree.map(lambda a: tuple(a.shape), params) != wanted:
        raise CheckpointError(
            f"{path} does not fit {experiment.source.name} with network "
            f"{experiment.config.network}; its own settings are {found.overrides}"
        )
    what = {"step": found.step, "weights": "params" if raw else "published ema",
            "checkpoint": str(path)}  # fmt: skip
    whole = replicated(experiment.mesh)
    return jax.tree.map(lambda a: put(a, whole), params), what


def published(checkpoint: str) -> tuple[Path, Any]:
    """The path and the content of a published checkpoint, from its prefixed name."""
    from diffusion_jax.networks.published import diffenc, vdm

    prefix, _, name = checkpoint.partition(":")
    path = Path(name)
    return path, vdm.read(path) if prefix == "vdm" else diffenc.read(path, prefix)
