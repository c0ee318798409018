"""Data of a discriminator: a data set in equal parts with samples of a run."""

import copy

import jax
import numpy as np

from diffusion_jax.data.base import Source, Split
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.experiment import Experiment, guidance_models, other_runs
from diffusion_jax.experiment.sampling import run_sampler
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.storage import write_arrays

# Parts of the samples that go with the splits of the data.
_PARTS = {"train": (0.0, 0.7), "valid": (0.7, 0.8), "test": (0.8, 1.0)}


def check(experiment: Experiment, path: str) -> None:
    """Refuses (`ConfigError`) a run whose samples cannot be told from these data."""
    if experiment.config.sample.num < 100:
        raise ConfigError(
            f"sample.num={experiment.config.sample.num}: a discriminator needs 100 or more"
        )
    _run(experiment, path)


def source(experiment: Experiment, against: str) -> Source:
    """The data and samples of the run `against`, drawn by `config.sample`; kept in `against.npz`.

    Labels are `class` for data and `class + classes` for samples; 0 and 1 without classes.
    """
    path = experiment.workdir / "against.npz"
    if not path.exists():
        _draw(experiment, against, path)
    try:
        with path.open("rb") as raw:
            f = untrusted.npz(raw)
            untrusted.need(f, "image", "label")
            image, label = f["image"], f["label"]
    except (OSError, ValueError, KeyError) as e:
        raise DataError(f"cannot read {path}: {e}; delete it to draw the samples again") from e
    return mixed(
        experiment.source,
        image,
        label,
        experiment.source.num_classes if experiment.config.conditional else 1,
    )


def mixed(data: Source, image: np.ndarray, label: np.ndarray, classes: int) -> Source:
    """Data and samples in equal parts.

    `image` `[N, H, W, C]` and `label` `[N]` are repeated, or cut, to the length of each split.
    `classes` is what a discriminator is told; 1 for none.
    """

    def load(name: str) -> Split:
        real = data.split(name)
        lo, hi = (round(f * len(image)) for f in _PARTS[name])
        rows = np.resize(np.arange(lo, hi), len(real))
        labels = (
            [real.labels, label[rows] + classes]
            if classes > 1
            else [np.zeros(len(real)), np.ones(len(real))]
        )
        return Split(
            f"{real.name} against samples",
            np.concatenate([np.asarray(real.images), image[rows]]),
            np.concatenate(labels).astype(np.int32),
            real.levels,
            2 * classes,
        )

    return Source(f"{data.name} against samples", data.shape, data.levels, 2 * classes, load)


def _run(experiment: Experiment, path: str) -> Experiment:
    """The run whose samples are drawn, with this run's settings for sampling."""
    c = experiment.config
    other = other_runs.opened("task: against", path, "", c.data_dir, c.data)
    guidance_models.check_same_data(experiment, other, path)
    for field in ("guidance", "sampler", "grid", "plan", "corrector", "sample"):
        other.config[field] = copy.deepcopy(c[field])
    if not other.model.traits.pixels:
        other.config.final = "sample()"  # by their law: the most probable images are other ones
    if c.conditional and not other.model.num_classes:
        raise ConfigError(f"conditional=True, but {path} is a model without classes")
    run_sampler.check(other)
    return other


def _draw(experiment: Experiment, against: str, path: object) -> None:
    other = _run(experiment, against)
    c = other.config.sample
    params, record = other.weights()
    draw = run_sampler.compiled(other, params)
    drawn, labels = draw(c.seed), draw.labels
    labels = np.zeros(c.num, np.int32) if labels is None else labels
    if jax.process_index() == 0:
        write_arrays(path, image=drawn, label=labels)
    say(f"{c.num} samples of {record['checkpoint']} written to {path}")
