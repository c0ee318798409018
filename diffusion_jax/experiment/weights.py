"""The weights of a run: the newest or the best checkpoint, a named one, or a published one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.networks.published import PREFIXES
from diffusion_jax.runtime.sharding import put, replicated
from diffusion_jax.runtime.storage import place
from diffusion_jax.training import restore
from diffusion_jax.types import Params

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


def load(experiment: "Experiment", name: str) -> tuple[Params, dict[str, Any]]:
    """The weights called `name`, replicated over the mesh, and a record of what they are."""
    if experiment.checkpoint.startswith(PREFIXES):
        return _imported(experiment, name)
    path = place(experiment.checkpoint) if experiment.checkpoint else experiment.workdir
    like, sharding = experiment.shapes(), replicated(experiment.mesh)

    def read(folder: Path) -> tuple[Params, dict[str, Any], list[str]]:
        meta = restore.read_meta(folder)
        params = restore.read_weights(folder, like, name, sharding)
        record = {"step": meta["step"], "weights": name, "checkpoint": str(folder)}
        return params, record, meta.get("data", {}).get("classes", [])

    which = experiment.config.eval.checkpoint
    params, record, classes = restore.restore_newest(path, read, best=which == "best")[0]
    _check_classes(experiment, classes)
    return params, record


def _check_classes(experiment: "Experiment", trained: list[str]) -> None:
    """Raises ConfigError if labels mean other classes now than in training."""
    now, c = list(experiment.source.classes), experiment.config
    uses = c.conditional or experiment.task.holds != "denoiser"
    if uses and trained and now and trained != now:
        was, is_ = next((p for p in zip(trained, now, strict=False) if p[0] != p[1]), ("", ""))
        raise ConfigError(
            f"the classes of {experiment.source.name} are not those of training: "
            f"{len(now)} now, {len(trained)} then; {is_!r} was {was!r}. Name the folders as before"
        )


def _imported(experiment: "Experiment", name: str) -> tuple[Params, dict[str, Any]]:
    path, found = published(experiment.checkpoint)
    raw = name == "params"
    params = found.params if raw else found.ema_params
    wanted = jax.tree.map(lambda a: a.shape, experiment.shapes())
    if jax.tree.map(lambda a: tuple(a.shape), params) != wanted:
        raise CheckpointError(
            f"{path} does not fit {experiment.source.name} with network "
            f"{experiment.config.network}; its own settings are {found.overrides}"
        )
    record = {"step": found.step, "weights": "params" if raw else "published ema",
              "checkpoint": str(path)}  # fmt: skip
    whole = replicated(experiment.mesh)
    return jax.tree.map(lambda a: put(a, whole), params), record


def published(checkpoint: str) -> tuple[Path, Any]:
    """The path and the content of a published checkpoint, from its prefixed name."""
    from diffusion_jax.networks.published import diffenc, vdm

    prefix, _, name = checkpoint.partition(":")
    path = Path(name)
    return path, vdm.read(path) if prefix == "vdm" else diffenc.read(path, prefix)
