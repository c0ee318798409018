"""The sampler of a run, with the settings of its configuration."""

import dataclasses
import math

import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, texts
from diffusion_jax.experiment.sampling import (
    best_of,
    compiled_sampler,
    generators,
    low_images,
    priors,
    sampling_method,
)
from diffusion_jax.experiment.sampling.best_of import Best, best
from diffusion_jax.experiment.sampling.compiled_sampler import Chain, Drawing
from diffusion_jax.experiment.sampling.generators import Generated
from diffusion_jax.runtime import memory
from diffusion_jax.types import Params


def compiled(
    experiment: Experiment, params: Params, otherwise: str = ""
) -> Drawing | Chain | Generated | Best:
    """Compiles the sampler of `experiment.config`.

    Args:
        experiment: the run, or a cascade.
        params: the weights, or those of every stage.
        otherwise: default source of the small images of a later stage, and of the embeddings of a
            decoder, such as `split:test`.
    """
    if experiment.stages:
        pairs = zip(experiment.stages, params, strict=True)
        made = (_one(s, p, i) for i, (s, p) in enumerate(pairs))
        return Chain(tuple(made))
    if generators.generates(experiment):
        return generators.compiled(experiment, params)
    labels, given = low_images.named(experiment, otherwise)
    made = _one(experiment, params, 0, labels, otherwise)
    low_of = experiment.config.sample.low or otherwise
    return best(dataclasses.replace(made, low=given, low_of=low_of))


def _one(
    experiment: Experiment,
    params: Params,
    stage: int = 0,
    labels: np.ndarray | None = None,
    otherwise: str = "",
) -> Drawing:
    source = priors.opened(experiment, otherwise)
    if source is None:
        split = "" if stage else low_images.split_of(experiment, otherwise)
        return compiled_sampler.drawing(experiment, params, stage, labels, split=split)
    made = compiled_sampler.drawing(experiment, params, stage, labels, source.captions)
    embeddings, prior = source.ready()
    return dataclasses.replace(made, embeddings=embeddings, prior=prior)


def check(experiment: Experiment) -> None:
    """Checks the sampling settings, as far as possible without weights."""
    c = experiment.config.sample
    if c.num < 0 or c.batch < 1:
        raise ConfigError(f"sample.num={c.num} and sample.batch={c.batch} must be at least 0 and 1")
    if c.format and c.format not in experiment.source.medium.kinds:
        medium = experiment.source.medium
        allowed = f"allowed: {', '.join(medium.kinds)}" if medium.kinds else "leave it out"
        raise ConfigError(f"sample.format={c.format!r}: samples are {medium.name}s; {allowed}")
    if experiment.stages:
        if c.low:
            raise ConfigError(f"sample.low={c.low!r}: the earlier stages draw the small images")
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
    if not c.prior:
        texts.conditions(experiment, texts.wanted(experiment, c.num))
    best_of.check(experiment)
    if experiment.model.given_shape(experiment.source.shape) is not None:
        sampling_method.check_levels(experiment, "a cascade puts together")
    sampling_method.check(experiment)
