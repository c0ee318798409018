"""How to sample, from the configuration; and the second models that guidance names."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax import registry, saved_config
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Job
from diffusion_jax.runtime.storage import place
from diffusion_jax.sampling import generate, method as method_lib
from diffusion_jax.sampling.edits.base import Edit
from diffusion_jax.sampling.method import Helpers, Method
from diffusion_jax.types import Params


def build(job: Job, params: Params, edit: Edit | None = None) -> Method:
    """How `job.config` says to sample.

    Args:
        job: the job.
        params: weights of the model: learned schedules decide where a plan begins and ends.
        edit: an edit that changes the grid and has conditions of its own.

    Returns:
        The method, checked against the model.

    Raises:
        ConfigError: parts that do not exist or do not fit the model or one another.
    """
    c = job.config
    parts = _parts(job)
    grid, plan = registry.build("grids", c.grid), registry.build("plans", c.plan)
    gammas = generate.plan(job.model, params, grid, c.sample.steps)
    gammas = plan(gammas if edit is None else edit.plan(gammas))
    method = Method(gammas=np.asarray(gammas, np.float64), **parts)
    if edit is not None:
        edit.check(job.model, method)
    method_lib.check_method(job.model, method)
    return method


def check(job: Job) -> None:
    """Refuses sampling settings that cannot work, as far as that can be said without weights.

    Args:
        job: the job.
    """
    parts = _parts(job)
    for kind in ("grid", "plan"):
        registry.build(f"{kind}s", job.config[kind])
    method_lib.check_guidance(job.model, parts["guidance"], parts["helpers"])
    method_lib.check_sampler(job.model, parts["sampler"])


def describe(job: Job, method: Method) -> dict[str, Any]:
    """All that defines samples beside the weights, for records."""
    c = job.config
    fields = ("guidance", "sampler", "grid", "plan", "corrector", "final")
    return {k: c[k] for k in fields} | {
        "steps": c.sample.steps,
        "network_calls": method.calls(job.model),
    }


def _parts(job: Job) -> dict[str, Any]:
    c = job.config
    return {
        "sampler": registry.build("samplers", c.sampler),
        "guidance": registry.build("guidance", c.guidance),
        "final": registry.build("finals", c.final),
        "correct": registry.build("correctors", c.corrector),
        "helpers": Helpers(lambda kind, path: open_helper(job, kind, path)),
    }


def open_helper(job: Job, kind: str, checkpoint: str) -> tuple[Callable, Params]:
    """A second model for the guidance of `job`'s model.

    Args:
        job: the job.
        kind: `"denoiser"`, or a plug-in of the folder `scorers`.
        checkpoint: a work directory or checkpoint folder.

    Returns:
        `(bind, params)`, see `helpers.Helpers`.

    Raises:
        ConfigError: the checkpoint holds something else, or was trained on other data.
    """
    other = open_run(job, checkpoint)
    held = registry.parse(other.config.scorer).name if other.config.scorer else "denoiser"
    if held != kind:
        raise ConfigError(f"{checkpoint} holds a {held}; the guidance asks for a {kind}")
    check_same_data(job, other, checkpoint)
    params, _ = other.weights()
    if kind == "denoiser":
        if job.model.num_classes != other.model.num_classes:
            raise ConfigError(
                f"{checkpoint} knows {other.model.num_classes} classes, this model "
                f"{job.model.num_classes}"
            )
        return other.model.denoiser, params
    scorer = other.scorer
    return (lambda p: lambda z, gamma, cond: scorer.log_prob(p, z, gamma, cond)), params


def open_run(job: Job, checkpoint: str) -> Job:
    """Another run, with its own configuration and this job's data folder.

    Args:
        job: the job that asks.
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
    config.data_dir = job.config.data_dir
    return Job(config, place(checkpoint), str(place(checkpoint)))


def check_same_data(job: Job, other: Job, name: str) -> None:
    """Refuses a second model of images of another kind.

    Args:
        job: the job.
        other: the other run.
        name: its name, for the message.

    Raises:
        ConfigError: images differ in shape or grey levels.
    """
    mine, theirs = ((s.shape, s.levels) for s in (job.source, other.source))
    if mine != theirs:
        raise ConfigError(
            f"{name} was trained on {theirs[0]} images of {theirs[1]} levels, this model on "
            f"{mine[0]} of {mine[1]}"
        )
