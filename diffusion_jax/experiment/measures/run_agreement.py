"""Do two runs, trained on different images, draw the same from the same noise?

Models that generalise do, those that remember each draw their own images (Kadkhodaie et al. 2024).
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

_ODE = {"plan": "once()", "corrector": "none()"}  # and DDIM: no noise but the first
_OF_SAMPLES = ("num", "steps", "batch", "labels", "seed", "captions", "prompts", "captions_of",
               "prior", "prior_samples", "prior_guidance", "low", "low_gamma", "best_of",
               "judge")  # fmt: skip
_SHARED = ("guidance", "grid", "final", "eval.split", *(f"sample.{k}" for k in _OF_SAMPLES))


def open_other(experiment: Experiment, path: str) -> Experiment:
    """The run `audit.against` names; `ConfigError` if its images or classes are of another kind."""
    c = experiment.config
    other = other_runs.opened("audit.against", path, "", c.data_dir, c.data)
    if not assembly.diffuses(other):
        raise ConfigError(
            f"audit.against={path!r} holds {other.config.task}, not a diffusion model"
        )
    guidance_models.check_same_data(experiment, other, path)
    mine, theirs = (e.model.num_classes for e in (experiment, other))
    if mine != theirs:
        raise ConfigError(f"audit.against={path!r} knows {theirs} classes, this model {mine}")
    texts.check_alike(experiment, other, f"audit.against={path!r}")
    return other


def as_drawn(experiment: Experiment, other: Experiment) -> tuple[Experiment, Experiment]:
    """Both runs with the settings that they draw with here: by DDIM, flow maps by their jumps.

    Raises:
        ConfigError: there are too few samples, or one of them cannot draw so.
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
                f"audit.against: {run.workdir} is to draw as {experiment.workdir} does "
                f"(sample.steps={c.sample.steps}, grid={c.grid}, guidance={c.guidance}), without "
                f"noise: {e}"
            ) from e
        return changed

    return drawn(experiment), drawn(other)


def _prompts(experiment: Experiment) -> dict[str, Any]:
    """What makes any run of the same kind draw with the prompts of this one, and their classes."""
    c, split = experiment.config, low_images.split_of(experiment)
    labels, said = compiled_sampler.asked(experiment, c.sample.num, split)
    # What is told of embeddings has captions of its own, and so has a file of small images.
    if c.embedding or not said or (c.sample.low and not split):
        return {}
    named = {} if labels is None else {"sample.labels": tuple(labels.tolist())}
    return {"sample.captions": said, "sample.prompts": "", "sample.captions_of": "", **named}


def measure(experiment: Experiment, other: Experiment) -> dict[str, Any]:
    """Draws from both runs with the same noise and classes, as `as_drawn` says, and compares.

    Returns:
        `cosine`, the mean over images of that between the two samples, less the mean training
        image; `cosine_of_others`, the same with samples of other noise of the same class and
        caption (None where each has one sample);
        `rms` and, for each run, `rms_to_train`: root mean square distance of samples to those of
        the other run, and to their nearest own training images, in shares of the range of levels;
        and `shared`, how many training images both have.
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
    """A number for each sample, that of all that were asked to show the same."""
    classes = [0] * count if labels is None else np.asarray(labels).tolist()
    asked = [*zip(classes, captions or [""] * count, strict=True)]
    number = {what: i for i, what in enumerate(dict.fromkeys(asked))}
    return np.asarray([number[what] for what in asked])


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
    """For each sample the next of its class, and the first after the last."""
    other = np.arange(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        other[rows] = np.roll(rows, -1)
    return other


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / np.maximum(length, 1e-12)))
