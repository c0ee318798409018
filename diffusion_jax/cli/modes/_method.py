"""How to sample, from the configuration; and the second models that guidance names."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, check_same_data, open_other
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
    """A second network for the guidance of `experiment`'s model.

    Args:
        kind: `"denoiser"`, or a plug-in of `scorers`.
        checkpoint: a work directory or checkpoint folder.

    Returns:
        `(bind, params)`, see `sampling.method.Helpers`.

    Raises:
        ConfigError: the checkpoint holds something else, or was trained on other data.
    """
    other = open_other(experiment, checkpoint)
    held = other.task.holds
    if held != kind:
        raise ConfigError(f"{checkpoint} holds a {held}; the guidance asks for a {kind}")
    check_same_data(experiment, other, checkpoint)
    params, _ = other.weights()
    if held == experiment.task.holds:
        mine, theirs = (e.model.num_classes for e in (experiment, other))
        if mine != theirs:
            raise ConfigError(f"{checkpoint} knows {theirs} classes, this model {mine}")
    return other.task.function(other), params
