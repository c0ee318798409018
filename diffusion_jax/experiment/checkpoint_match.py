"""Compares a checkpoint's record with the settings that its weights are used with."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from diffusion_jax import registry, saved_config
from diffusion_jax.errors import CheckpointError, ConfigError, UserError

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


def check_settings(experiment: "Experiment", folder: Path, saved: dict[str, Any] | None) -> None:
    """Raises `CheckpointError` if settings that determine the meaning of the weights differ."""
    if not saved:
        return
    trained, current = saved_config.from_dict(saved), copy.deepcopy(experiment.config)
    current.gamma_min = experiment.offered()["gamma_min"]
    if trained.gamma_min is None:
        trained.gamma_min = current.gamma_min
    wrong = saved_config.other_meaning(trained, current)
    if not wrong and registry.parse(trained.data) != registry.parse(current.data):
        wrong = _other_data(experiment, trained)
    if wrong:
        raise CheckpointError(
            f"{folder} was trained with other settings, on which its weights depend "
            f"({'; '.join(wrong)}); leave these settings out, or use those of the run"
        )


def _other_data(experiment: "Experiment", trained: ConfigDict) -> list[str]:
    """Differences between the data that matter to the weights.

    Data that cannot be found, or would import untrusted modules, are not compared.
    """
    if saved_config.untrusted_imports({"data": trained.data}):
        return []
    try:
        there = registry.build(
            "data", trained.data, data_dir=experiment.config.data_dir,
            workers=experiment.config.data_workers,
        )  # fmt: skip
    except (UserError, OSError):
        return []
    here = experiment.source
    pairs = {"levels": (there.levels, here.levels), "shape": (there.shape, here.shape)}
    if trained.conditional or experiment.task.holds != "denoiser":
        pairs["classes"] = (there.num_classes, here.num_classes)
    return [f"{k} of the data: {a} -> {b}" for k, (a, b) in pairs.items() if a != b]


def check_classes(experiment: "Experiment", trained: list[str]) -> None:
    """Raises ConfigError if the classes are not those of training."""
    now, c = list(experiment.source.classes), experiment.config
    uses = c.conditional or experiment.task.holds != "denoiser"
    if uses and trained and now and trained != now:
        was, is_ = next((p for p in zip(trained, now, strict=False) if p[0] != p[1]), ("", ""))
        raise ConfigError(
            f"the classes of {experiment.source.name} are not those of training: "
            f"{len(now)} now, {len(trained)} then; {is_!r} was {was!r}. Restore the folder names"
        )
