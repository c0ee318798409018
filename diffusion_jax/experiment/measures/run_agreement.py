"""Compares samples of two runs, trained on different images, from the same noise.

Models that generalise draw nearly the same images; those that memorise draw their own training
images (Kadkhodaie et al. 2024).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion_jax import config_fields
from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.neighbours import Nearest
from diffusion_jax.experiment import Experiment, assembly, guidance_models, other_runs, texts
from diffusion_jax.experiment._with_settings import with_settings
from diffusion_jax.experiment.sampling import compiled_sampler, low_images, run_sampler

_ODE = {"plan": "once()", "corrector": "none()"}  # with DDIM, the only noise is the initial one
_OF_SAMPLES = ("num", "steps", "batch", "labels", "seed", "captions", "prompts", "captions_of",
               "prior", "prior_samples", "prior_guidance", "low", "low_gamma", "best_of",
               "judge")  # fmt: skip
_SHARED = ("guidance", "grid", "final", "eval.split", *(f"sample.{k}" for k in _OF_SAMPLES))


def open_other(experiment: Experiment, path: str) -> Experiment:
    """Opens the run of `audit.against`; `ConfigError` if its images or classes are incompatible."""
    c = experiment.config
    other = other_runs.opened("audit.against", path, "", c.data_dir, c.data)
    if not assembly.diffuses(other):
        raise ConfigError(
            f"audit.against={path!r} holds {other.config.task}, not a diffusion model"
        )
    guidance_models.check_same_data(experiment, other, path)
    mine, theirs = (e.model.num_classes for e in (experiment, other))
    if mine != theirs:
        raise ConfigError(f"audit.against={path!r} has {theirs} classes, this model {mine}")
    texts.check_alike(experiment, other, f"audit.against={path!r}")
    return other


def as_drawn(experiment: Experiment, other: Experiment) -> tuple[Experiment, Experiment]:
    """Both runs with the settings for the comparison: DDIM, or the jumps of a flow map.

    Raises:
        ConfigError: there are too few samples, or a run cannot sample with these settings.
    """
    c = experiment.config
    if c.sample.num < 2:
        raise ConfigError(f"audit.against compares samples: sample.num={c.sample.num} is too few")
    settings = config_fields.flat(c.to_dict())
    same = {k: settings[k] for k in _SHARED} | _prompts(experiment)

    def drawn(run: Experiment) -> Experiment:
        sampler = getattr(run.task, "drawn_by", "ddim()")
        changed = with_settings(run, {**same, **_ODE, "sampler": sampler})
        try:
            run_sampler.check(changed)
        except ConfigError as e:
            raise ConfigError(
                f"audit.against: {run.workdir} must sample like {experiment.workdir} "
                f"(sample.steps={c.sample.steps}, grid={c.grid}, guidance={c.guidance}), without "
                f"noise: {e}"
            ) from e
        return changed

    return drawn(experiment), drawn(other)


def _prompts(experiment: Experiment) -> dict[str, Any]:
    """Settings that make another run use the prompts and classes of this one."""
    c, split = experiment.config, low_images.split_of(experiment)
    labels, captions = compiled_sampler.asked(experiment, c.sample.num, split)
    # The source of embeddings has its own captions, and so has a file of small images.
    if c.embedding or not captions or (c.sample.low and not split):
        return {}
    classes = {} if labels is None else {"sample.labels": tuple(labels.tolist())}
    return {"sample.captions": captions, "sample.prompts": "", "sample.captions_of": "", **classes}


def measure(experiment: Experiment, other: Experiment) -> dict[str, Any]:
    """Samples both runs with the same noise and classes, see `as_drawn`, and compares.

    Returns:
        `cosine`: mean cosine between the two samples, after subtracting the mean training image;
        `cosine_of_others`: likewise with a sample of the same class and caption from other noise
        (None if there is only one of each); `rms`: root mean square distance between the samples
        of the two runs, as a share of the range of levels; `rms_to_train`: for each run, likewise
        to the nearest of its own training images; `shared`: number of training images in common.
    """
    runs = as_drawn(experiment, other)
    splits = [e.source.split("train") for e in (experiment, other)]
    samplers = " and ".join(dict.fromkeys(run.config.sampler for run in runs))
    made = [run_sampler.compiled(run, run.params) for run in runs]
    drawn = [_rows(m.levels(m(run.config.sample.seed)), experiment)
             for m, run in zip(made, runs, strict=True)]  # fmt: skip
    alike = _groups(len(drawn[0]), made[0].labels, made[0].captions)
    return {**_compare(*drawn, alike, *splits, experiment), "sampler": samplers}


def _groups(count: int, labels: np.ndarray | None, captions: Sequence[str]) -> np.ndarray:
    """A group number for each sample: equal for the same class and caption."""
    classes = [0] * count if labels is None else np.asarray(labels).tolist()
    pairs = [*zip(classes, captions or [""] * count, strict=True)]
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    return np.asarray([number[pair] for pair in pairs])


def _rows(images: np.ndarray, experiment: Experiment) -> np.ndarray:
    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    return flat / (experiment.source.levels - 1)


def _compare(
    a: np.ndarray,
    b: np.ndarray,
    labels: np.ndarray,
    mine: Split,
    theirs: Split,
    experiment: Experiment,
) -> dict[str, Any]:
    trained = [_rows(s.everything()["image"], experiment) for s in (mine, theirs)]
    middle = np.concatenate(trained).mean(0)
    other = _next_alike(labels)
    pairs = np.flatnonzero(other != np.arange(len(other)))
    to_train = []
    for samples, train in zip((a, b), trained, strict=True):
        near = Nearest(samples)
        near.add(train)
        to_train.append(float(near.distance.mean() / math.sqrt(a.shape[1])))
    both = [{row.tobytes() for row in t} for t in trained]
    return {
        "cosine": _cosine(a - middle, b - middle),
        "cosine_of_others": _cosine(a[pairs] - middle, b[other[pairs]] - middle)
        if len(pairs)
        else None,
        "rms": float(np.linalg.norm(a - b, axis=1).mean() / math.sqrt(a.shape[1])),
        "rms_to_train": to_train,
        "images": len(a),
        "shared": len(both[0] & both[1]),
    }


def _next_alike(labels: np.ndarray) -> np.ndarray:
    """For each sample, the index of the next sample of its group, cyclically."""
    other = np.arange(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        other[rows] = np.roll(rows, -1)
    return other


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / np.maximum(length, 1e-12)))
