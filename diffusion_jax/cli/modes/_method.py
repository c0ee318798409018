"""How to sample, from the configuration; and the second models that guidance names."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax import registry, saved_config
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.storage import place
from diffusion_jax.sampling import generate, method as method_lib
from diffusion_jax.sampling.edits.base import Edit
from diffusion_jax.sampling.method import Helpers, Method
from diffusion_jax.types import Params


def build(experiment: Experiment, params: Params, edit: Edit | None = None) -> Method:
    """How `experiment.config` says to sample.

    Args:
        params: weights of the model: learned schedules decide where a plan begins and ends.
        edit: an edit that changes the grid and has conditions of its own.

    Returns:
        The method, checked against the model.

    Raises:
        ConfigError: parts that do not exist or do not fit the model or one another.
    """
    c = experiment.config
    parts = _parts(experiment)
    grid, plan = registry.build("grids", c.grid), registry.build("plans", c.plan)
    gammas = generate.plan(experiment.model, params, grid, c.sample.steps)
    gammas = plan(gammas if edit is None else edit.plan(gammas))
    method = Method(gammas=np.asarray(gammas, np.float64), **parts)
    if edit is not None:
        edit.check(experiment.model, method)
    method_lib.check_method(experiment.model, method)
    return method


def check(experiment: Experiment) -> None:
    """Refuses sampling settings that cannot work, as far as that can be said without weights."""
    parts = _parts(experiment)
    for kind in ("grid", "plan"):
        registry.build(f"{kind}s", experiment.config[kind])
    method_lib.check_guidance(experiment.model, parts["guidance"], parts["helpers"])
    method_lib.check_sampler(experiment.model, parts["sampler"])


def describe(experiment: Experiment, method: Method) -> dict[str, Any]:
    """All that defines samples beside the weights, for records."""
    c = experiment.config
    fields = ("guidance", "sampler", "grid", "plan", "corrector", "final")
    return {k: c[k] for k in fields} | {
        "steps": c.sample.steps,
        "network_calls": method.calls(experiment.model),
    }


def _parts(experiment: Experiment) -> dict[str, Any]:
    c = experiment.config
    return {
        "sampler": registry.build("samplers", c.sampler),
        "guidance": registry.build("guidance", c.guidance),
        "final": registry.build("finals", c.final),
        "correct": registry.build("correctors", c.corrector),
        "helpers": Helpers(lambda kind, path: open_helper(experiment, kind, path)),
    }


def open_helper(experiment: Experiment, kind: str, checkpoint: str) -> tuple[Callable, Params]:
    """A second model for the guidance of `job`'s model.

    Args:
        kind: `"denoiser"`, or a plug-in of the folder `scorers`.
        checkpoint: a work directory or checkpoint folder.

    Returns:
        `(bind, params)`, see `helpers.Helpers`.

    Raises:
        ConfigError: the checkpoint holds something else, or was trained on other data.
    """
    other = open_run(experiment, checkpoint)
    held = registry.parse(other.config.scorer).name if other.config.scorer else "denoiser"
    if held != kind:
        raise ConfigError(f"{checkpoint} holds a {held}; the guidance asks for a {kind}")
    check_same_data(experiment, other, checkpoint)
    params, _ = other.weights()
    if kind == "denoiser":
        if experiment.model.num_classes != other.model.num_classes:
            raise ConfigError(
                f"{checkpoint} knows {other.model.num_classes} classes, this model "
                f"{experiment.model.num_classes}"
            )
        return other.model.denoiser, params
    scorer = other.scorer
    return (lambda p: lambda z, gamma, cond: scorer.log_prob(p, z, gamma, cond)), params


def open_run(experiment: Experiment, checkpoint: str) -> Experiment:
    """Another run, with its own configuration and this job's data folder.

    Args:
        experiment: the job that asks.
        checkpoint: a work directory or checkpoint folder.

    Returns:
        The other run as a job.

    Raises:
        ConfigError: there is no run there.
    """
    saved = saved_config.find(place(checkpoint))
    if saved is None:
        raise ConfigError(f"checkpoint={checkpoint!r}: there is no run in that folder")
    config = saved_config.read(saved)
    config.data_dir = experiment.config.data_dir
    return Experiment(config, place(checkpoint), str(place(checkpoint)))


def check_same_data(experiment: Experiment, other: Experiment, name: str) -> None:
    """Refuses a second model of images of another kind.

    Args:
        other: the other run.
        name: its name, for the message.

    Raises:
        ConfigError: images differ in shape or grey levels.
    """
    mine, theirs = ((s.shape, s.levels) for s in (experiment.source, other.source))
    if mine != theirs:
        raise ConfigError(
            f"{name} was trained on {theirs[0]} images of {theirs[1]} levels, this model on "
            f"{mine[0]} of {mine[1]}"
        )
