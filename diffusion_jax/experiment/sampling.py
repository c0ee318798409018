"""Samples of a run, as its configuration says; and the second models that guidance names."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import (
    Experiment,
    best_of,
    generators,
    low_images,
    priors,
    second_models,
    texts,
)
from diffusion_jax.experiment.best_of import Best, best
from diffusion_jax.experiment.compiled_sampler import Chain, Drawing
from diffusion_jax.experiment.generators import Generated
from diffusion_jax.model import require
from diffusion_jax.runtime import memory
from diffusion_jax.sampling import generate, method as method_lib
from diffusion_jax.sampling.edits.base import Edit
from diffusion_jax.sampling.method import Helpers, Method
from diffusion_jax.types import Array, Params, Pred


def compiled(
    experiment: Experiment, params: Params, otherwise: str = ""
) -> Drawing | Chain | Generated | Best:
    """The sampler of `experiment.config`.

    Args:
        params: of a cascade, those of each stage.
        otherwise: where a later stage of a cascade has small images from, and a decoder what it is
            told, if the settings name nothing: `split:test`.
    """
    if experiment.stages:
        pairs = zip(experiment.stages, params, strict=True)
        made = (_one(s, p, i) for i, (s, p) in enumerate(pairs))
        return Chain(tuple(made))
    if generators.generates(experiment):
        return generators.compiled(experiment, params)
    labels, given = low_images.named(experiment, otherwise)
    made = _one(experiment, params, 0, labels, otherwise)
    return best(dataclasses.replace(made, low=given))


def _one(
    experiment: Experiment,
    params: Params,
    stage: int = 0,
    labels: np.ndarray | None = None,
    otherwise: str = "",
) -> Drawing:
    c, model = experiment.config.sample, experiment.model
    source = priors.opened(experiment, otherwise)
    method = build(experiment, params)
    if labels is None:
        labels = generate.labels_for(model, c.num, tuple(c.labels))
    run = generate.compile_sampler(model, method, experiment.mesh)
    if source is None:
        asked = tuple(texts.wanted(experiment, c.num))
        return Drawing(experiment, params, method, labels, run, stage=stage, captions=asked)
    told, prior = source.ready()
    return Drawing(
        experiment, params, method, labels, run, stage=stage, captions=source.captions, told=told,
        prior=prior,
    )  # fmt: skip


def denoiser(
    experiment: Experiment, params: Params, labels: Array | None = None
) -> Callable[[Array, Array], Pred]:
    """The denoiser guided as `config.guidance` says, with the labels inside; see `Experiment`."""
    model = experiment.model
    require(
        model, "denoiser()", "use sample(): its gammas are drawn with each image",
        per_pixel_gamma=False, latent=0,
    )  # fmt: skip
    if labels is None and model.num_classes:
        raise ConfigError(
            f"this model is conditional: denoiser(labels=...) takes a class 0 .. "
            f"{model.num_classes - 1} for each image, or {model.num_classes} for no class"
        )
    if labels is not None and model.num_classes and (np.asarray(labels) == model.num_classes).any():
        require(model, "the label for no class", "give every image a class", null_class=True)
    parts = _parts(experiment)
    method_lib.check_guidance(model, parts["guidance"], parts["helpers"])
    guided = parts["guidance"](model.denoiser(params), parts["helpers"].context(model))
    return with_condition(
        guided, {} if labels is None else {"label": jnp.asarray(labels, jnp.int32)}
    )


def build(experiment: Experiment, params: Params, edit: Edit | None = None) -> Method:
    """How `experiment.config` says to sample, checked against the model.

    Learned schedules, in `params`, decide where a plan begins and ends; an edit may change it.
    """
    c = experiment.config
    _check_learned(experiment)
    parts = _parts(experiment)
    grid, plan = registry.build("grids", c.grid), registry.build("plans", c.plan)
    gammas = generate.plan(experiment.model, params, grid, c.sample.steps)
    if len(gammas) != c.sample.steps + 1:
        raise ConfigError(
            f"grid={c.grid} has {len(gammas) - 1} steps of its own, but sample.steps="
            f"{c.sample.steps}; set sample.steps to {len(gammas) - 1}"
        )
    learned = set(gammas[:-1])
    gammas = plan(gammas if edit is None else edit.plan(gammas))
    if experiment.model.teacher and not set(gammas[:-1]) <= learned:
        raise ConfigError(
            f"edit.method={c.edit.method} begins between the {c.sample.steps} steps that this "
            f"student has learned: use its teacher ({experiment.model.teacher})"
        )
    method = Method(gammas=np.asarray(gammas, np.float64), **parts)
    if edit is not None:
        edit.check(experiment.model, method)
    method_lib.check_method(experiment.model, method)
    return method


def check(experiment: Experiment) -> None:
    """Refuses sampling settings that cannot work, as far as that can be said without weights."""
    c = experiment.config.sample
    if c.num < 0 or c.batch < 1:
        raise ConfigError(f"sample.num={c.num} and sample.batch={c.batch} must be at least 0 and 1")
    if c.format and c.format not in experiment.source.medium.kinds:
        medium = experiment.source.medium
        allowed = f"allowed are {', '.join(medium.kinds)}" if medium.kinds else "leave it out"
        raise ConfigError(f"sample.format={c.format!r}: samples are {medium.name}s; {allowed}")
    if experiment.stages:
        if c.low:
            raise ConfigError(f"sample.low={c.low!r}: the stages draw what later ones are given")
        for stage in experiment.stages:
            check(stage)
        return
    drawn = c.num * math.prod(experiment.source.shape)
    memory.check_host(drawn, f"{c.num} samples", "lower --config.sample.num")
    if generators.generates(experiment):
        generators.check(experiment)
        return
    low_images.check(experiment)
    priors.check(experiment)
    _check_learned(experiment)
    if not c.prior:
        texts.conditions(experiment, texts.wanted(experiment, c.num))
    best_of.check(experiment)
    parts = _parts(experiment)
    for kind in ("grid", "plan"):
        registry.build(f"{kind}s", experiment.config[kind])
    method_lib.check_guidance(experiment.model, parts["guidance"], parts["helpers"])
    method_lib.check_sampler(experiment.model, parts["sampler"])


def _check_learned(experiment: Experiment) -> None:
    """Refuses a way to sample that a student of few steps has not learned."""
    learned = getattr(experiment.task, "check_drawing", None)
    if learned is not None:
        learned(experiment.config)


def check_plan(experiment: Experiment) -> None:
    """Refuses grids and plans that cannot work with the schedule that training begins with."""
    build(experiment, {"schedule": experiment.model.schedule.init(jax.random.key(0))})


def _parts(experiment: Experiment) -> dict[str, Any]:
    c = experiment.config
    return {
        "sampler": registry.build("samplers", c.sampler),
        "guidance": registry.build("guidance", c.guidance),
        "final": registry.build("final_steps", c.final),
        "correct": registry.build("correctors", c.corrector),
        "helpers": Helpers(
            lambda kind, path: second_models.open_helper(experiment, kind, path),
            texts.reader(experiment),
        ),
    }
