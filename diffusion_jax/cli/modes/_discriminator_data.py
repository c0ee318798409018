"""Training data of a discriminator: real images and samples of a run, in equal numbers."""

import contextlib
import copy
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.views.base import part_of
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.experiment import Experiment, guidance_models, other_runs
from diffusion_jax.experiment.sampling import run_sampler
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.distributed import meet, say
from diffusion_jax.runtime.formatting import json_text
from diffusion_jax.runtime.sharding import greatest
from diffusion_jax.runtime.storage import write_arrays
from diffusion_jax.training import lock
from diffusion_jax.training.restore import FOLDER
from diffusion_jax.types import Params

_DRAWN_BY = ("guidance", "sampler", "grid", "plan", "corrector")
# The part of the samples that is mixed with each split of the data.
_PARTS = {"train": (0.0, 0.7), "valid": (0.7, 0.8), "test": (0.8, 1.0)}


def check(experiment: Experiment, path: str) -> None:
    """Raises ConfigError if samples of the run `path` cannot be used with these data."""
    if experiment.config.sample.num < 100:
        raise ConfigError(
            f"sample.num={experiment.config.sample.num}: a discriminator needs at least 100 samples"
        )
    _run(experiment, path)


def source(experiment: Experiment, against: str) -> Source:
    """The data, mixed with samples of the run `against`, which are stored in `against.npz`.

    A run that has begun to train keeps its samples. Before that they are drawn again whenever the
    weights or the sampling settings change. Labels are `class` for data and `class + classes` for
    samples; 0 and 1 without classes.
    """
    path = experiment.workdir / "against.npz"
    begun = any((experiment.workdir / FOLDER).glob("[0-9]*"))
    if not (begun and path.exists()):
        other = _run(experiment, against)
        params, record = other.weights()
        fields = {k: other.config[k] for k in (*_DRAWN_BY, "final")}
        made_by = json_text({**fields, "checkpoint": record["checkpoint"],
                             "sample": other.config.sample.to_dict()}, sort_keys=True)  # fmt: skip
        outdated = not path.exists() or str(_read(path).get("made_of", "")) != made_by
        if greatest([float(outdated)])[0]:
            first = jax.process_index() == 0
            # A process that is training there has read these samples already, and keeps using them.
            with lock.only_writer(experiment.workdir) if first else contextlib.nullcontext():
                _draw(other, params, record, path, made_by)
    found = _read(path)
    return mixed(
        experiment.source,
        found["image"],
        found["label"],
        experiment.source.num_classes if experiment.config.conditional else 1,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as raw:
            found = untrusted.npz(raw)
            untrusted.need(found, "image", "label")
    except (OSError, ValueError, KeyError) as e:
        raise DataError(f"cannot read {path}: {e}; delete it to draw the samples again") from e
    return found


def mixed(data: Source, image: np.ndarray, label: np.ndarray, classes: int) -> Source:
    """Mixes data and samples in equal numbers.

    Args:
        data: the real data.
        image: samples `[N, H, W, C]`, repeated or cut to the length of each split.
        label: their classes `[N]`.
        classes: number of classes that the discriminator is conditioned on; 1 for none.
    """

    def load(name: str) -> Split:
        real = data.split(name)
        lo, hi = (round(f * len(image)) for f in _PARTS[name])
        rows = np.resize(np.arange(lo, hi), len(real))
        every = real.whole()  # an image that replaces a damaged one also replaces its label
        labels = (
            [every["label"], label[rows] + classes]
            if classes > 1
            else [np.zeros(len(real)), np.ones(len(real))]
        )
        return Split(
            f"{real.name} against samples",
            np.concatenate([every["image"], image[rows]]),
            np.concatenate(labels).astype(np.int32),
            real.levels,
            2 * classes,
        )

    return Source(f"{data.name} against samples", data.shape, data.levels, 2 * classes, load)


def _run(experiment: Experiment, path: str) -> Experiment:
    """The run that provides the samples, with the sampling settings of this run."""
    c = experiment.config
    other = other_runs.opened("task: against", path, "", c.data_dir, c.data)
    guidance_models.check_same_data(experiment, other, path)
    if part_of(other.model.view, tuple(other.source.shape)):
        raise ConfigError(
            f"task: against={path!r} (view {other.config.view}) draws a part of each image, and "
            "a discriminator sees whole ones: name a run with view='whole()'"
        )
    for field in (*_DRAWN_BY, "sample"):
        other.config[field] = copy.deepcopy(c[field])
    if not other.model.traits.pixels:
        other.config.final = "sample()"  # the most probable images are not distributed like samples
    if c.conditional and not other.model.num_classes:
        raise ConfigError(f"conditional=True, but {path} is an unconditional model")
    run_sampler.check(other)
    return other


def _draw(
    other: Experiment, params: Params, record: dict[str, Any], path: Path, made_by: str
) -> None:
    c = other.config.sample
    draw = run_sampler.compiled(other, params)
    drawn, labels = draw(c.seed), draw.labels
    labels = np.zeros(c.num, np.int32) if labels is None else labels
    if jax.process_index() == 0:
        write_arrays(path, image=drawn, label=labels, made_of=np.asarray(made_by))
    meet("samples written")  # the other processes read the file
    say(f"{c.num} samples of {record['checkpoint']} written to {path}")
