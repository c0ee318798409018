"""The sampler of a run, with the settings of its configuration."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

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
        return _chain(experiment.stages, params)
    if generators.generates(experiment):
        return generators.compiled(experiment, params)
    experiment = _with_captions_of_low(experiment)
    labels, given = low_images.named(experiment, otherwise)
    split = low_images.split_of(experiment, otherwise)
    made = _one(conditions(experiment, otherwise, split, labels), params)
    low_of = experiment.config.sample.low or otherwise
    return best(dataclasses.replace(made, low=given, low_of=low_of))


def _with_captions_of_low(run: Experiment) -> Experiment:
    """The run with the captions of the samples that it enlarges, unless it is given others."""
    if not priors.uses_captions(run) or texts.asks(run):
        return run
    captions = low_images.captions_in(run)
    return priors.with_changes(run, {"sample.captions": captions}) if captions else run


@dataclass(frozen=True)
class Conditions:
    """The conditions of a run's samples.

    Attributes:
        run: the run.
        labels: the class of each sample; None for a model without classes.
        captions: the prompt of each sample; empty without prompts.
        images: the split whose images have these captions or embeddings; empty for none.
        source: the source of embeddings; None for a run without embeddings.
    """

    run: Experiment
    labels: np.ndarray | None
    captions: tuple[str, ...]
    images: str
    source: priors.EmbeddingSource | None


def conditions(
    run: Experiment, otherwise: str = "", split: str = "", labels: np.ndarray | None = None
) -> Conditions:
    """The conditions of the samples of one model.

    Args:
        run: a run, not a cascade.
        otherwise: as in `compiled`.
        split: the split whose captions and embeddings are the default.
        labels: the class of each sample; None for those of the images whose captions and
            embeddings are used.
    """
    if otherwise and split:
        otherwise = f"split:{split}"
    num, source = run.config.sample.num, priors.opened(run, otherwise, split, labels)
    if source is not None:
        prompts, images = source.captions, source.images
    else:
        prompts = tuple(texts.wanted(run, num, split=split))
        images = compiled_sampler.images_of(run, prompts, split)
    if labels is None:
        labels = compiled_sampler.classes(run, num, images)
    return Conditions(run, labels, prompts, images, source)


def _chain(stages: Sequence[Experiment], params: Sequence[Params]) -> Chain:
    """The stages of a cascade, all conditioned on the same images, captions and classes."""
    split = next(filter(None, map(priors.split_of, stages)), "")
    first = [conditions(s, split=split) for s in stages]
    of_images = (t.labels for t in first if t.images)
    labels = next(of_images, first[-1].labels)
    each = [conditions(s, split=split, labels=labels) for s in stages]
    return Chain(tuple(_one(t, p, i) for i, (t, p) in enumerate(zip(each, params, strict=True))))


def _one(given: Conditions, params: Params, stage: int = 0) -> Drawing:
    made = compiled_sampler.drawing(given.run, params, stage, given.labels, given.captions)
    if given.source is None:
        return made
    embeddings, prior = given.source.ready()
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
    experiment = _with_captions_of_low(experiment)
    priors.check(experiment)
    if not c.prior:
        texts.conditions(experiment, texts.wanted(experiment, c.num))
    best_of.check(experiment)
    if experiment.model.given_shape(experiment.source.shape) is not None:
        sampling_method.check_levels(experiment, "a cascade puts together")
    sampling_method.check(experiment)
