"""Feature spaces, classifiers and reference statistics that the configuration names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation import extract, neighbours, statistics
from diffusion_jax.evaluation.features.base import Features
from diffusion_jax.experiment import Experiment, clip_model, guidance_models, other_runs
from diffusion_jax.runtime.distributed import say
from diffusion_jax.types import Array, Params

_HELD_OUT = 1000  # minimum number of real images compared with the training images


@dataclass(frozen=True)
class Classifier:
    """A trained classifier, for clean images (at its smallest gamma).

    Attributes:
        params: its weights.
        logits: `(params, images) -> [B, K]`; images are integers `[B, H, W, C]`.
        features: `(params, images) -> [B, F]`.
        record: record of its weights and task.
    """

    params: Params
    logits: Callable[[Params, Array], Array]
    features: Callable[[Params, Array], Array]
    record: dict[str, Any]


def open_classifier(experiment: Experiment, checkpoint: str, setting: str) -> Classifier:
    """Opens a classifier for the images of `experiment`'s data.

    Args:
        experiment: the run.
        checkpoint: a work directory or checkpoint folder.
        setting: the setting that names it, for messages.

    Returns:
        The classifier.

    Raises:
        ConfigError: the checkpoint is not a classifier, or has other classes.
    """
    mine = experiment.config
    other = other_runs.opened(setting, checkpoint, "classifier", mine.data_dir, mine.data)
    c = other.config
    if other.task.holds != "classifier":
        raise ConfigError(
            f"{checkpoint} holds a {other.task.holds}, not a classifier; train one as in "
            "configs/digits_classifier.py"
        )
    guidance_models.check_same_data(experiment, other, checkpoint)
    if registry.parse(c.autoencoder).name != "pixels":
        raise ConfigError(
            f"{checkpoint} is a classifier of latents, which can guide but not judge images; train "
            "one of pixels, as in configs/digits_classifier.py"
        )
    clip_model.need_whole(other, checkpoint)
    if experiment.source.num_classes != other.source.num_classes:
        raise ConfigError(
            f"{checkpoint} has {other.source.num_classes} classes, the data have "
            f"{experiment.source.num_classes}"
        )
    params, record = other.weights()
    encode = registry.build("decoders", c.decoder, levels=other.source.levels).encode
    network, gamma = other.task.network(other), other.offered()["gamma_min"]

    def clean(call: Callable) -> Callable[[Params, Array], Array]:
        return lambda params, images: call(params, encode(images), jnp.full(len(images), gamma))

    record = {"task": c.task, "gamma": gamma, **record}
    return Classifier(params, clean(network.logits), clean(network.features), record)


def open_clip(experiment: Experiment, checkpoint: str, setting: str) -> clip_model.Clip:
    """Opens a CLIP for the images of the run's data; `ConfigError` if it does not fit."""
    found = clip_model.opened(checkpoint, setting, experiment.config.data_dir)
    mine = tuple(experiment.source.shape), experiment.source.levels
    if (found.shape, found.levels) != mine:
        raise ConfigError(
            f"{checkpoint} was trained on {found.shape} images with {found.levels} levels, the "
            f"data are {mine[0]} with {mine[1]}"
        )
    return found


def build(experiment: Experiment, spec: str) -> Features:
    """Builds the feature space of a plug-in string."""
    source, where = experiment.source, f"features {registry.parse(spec).name}()"
    return registry.build(
        "features", spec, shape=tuple(source.shape), levels=source.levels,
        open_classifier=lambda path: open_classifier(experiment, path, f"{where}: checkpoint"),
        open_clip=lambda path: open_clip(experiment, path, f"{where}: checkpoint"),
    )  # fmt: skip


def describe(spec: str, features: Features) -> dict[str, Any]:
    """The record of a feature space."""
    return {"features": spec, "size": features.size, "features_sha256": features.digest,
            **({"source": features.source} if features.source else {})}  # fmt: skip


def reference(
    experiment: Experiment, features: Features, run: Callable
) -> tuple[statistics.Reference, Path]:
    """The statistics of `config.quality.split`, read from the work directory or computed."""
    q = experiment.config.quality
    if q.rows < 1:
        raise ConfigError(f"quality.rows={q.rows} must be at least 1")
    split = experiment.source.split(q.split)
    stem = f"{q.split}_{features.name}_{features.digest[:8]}"
    wanted = {"features_sha256": features.digest, "data_sha256": split.fingerprint(),
              "rows": min(q.rows, len(split))}  # fmt: skip
    path, n = experiment.workdir / "statistics" / f"{stem}.npz", 1
    while path.exists():  # statistics of other rows or data are not overwritten
        kept = statistics.read(path, "delete it, and it is computed again")
        if all(kept.record.get(k) == v for k, v in wanted.items()):
            return kept, path
        n += 1
        path = path.with_name(f"{stem}_{n}.npz")
    found = statistics.measure(run, split, describe(q.features, features), q.rows)
    if jax.process_index() == 0:
        statistics.write(path, found)
    many = f"{len(split)} {experiment.source.medium.name}s"
    say(f"statistics of {split.name} ({many}) written to {path}")
    return found, path


def named_reference(path: Path, features: Features) -> statistics.Reference:
    """Reads statistics from the user's file; `ConfigError` if they are of other features."""
    found = statistics.read(path)
    if found.size != features.size:
        raise ConfigError(
            f"{path} holds {found.size} features, {features.name} has {features.size}: give the "
            "features it was made with (--config.quality.features)"
        )
    theirs = found.record.get("features_sha256", features.digest)
    if theirs != features.digest:
        raise ConfigError(
            f"{path} was made with {found.record['features']} with other weights "
            f"({theirs[:8]}.., here {features.digest[:8]}..); make it again with --mode=statistics"
        )
    return found


def rows_of(run: Callable, images: np.ndarray, label: str) -> np.ndarray:
    """Features of all images at once, float32 `[N, F]`."""
    return np.concatenate(list(run(images, label=label)))


def extractor(experiment: Experiment, features: Features) -> Callable:
    """A function from images to batches of features, with `config.quality.batch`."""
    if experiment.config.quality.batch < 1:
        raise ConfigError(f"quality.batch={experiment.config.quality.batch} must be at least 1")
    return extract.extractor(features, experiment.mesh, experiment.config.quality.batch)


def classes(experiment: Experiment, classifier: Classifier) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images, integers `[N, H, W, C]`, to a classifier's classes, `[N]`."""
    found = logits(experiment, classifier)
    return lambda images: found(images).argmax(1)


def logits(experiment: Experiment, classifier: Classifier) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images, integers `[N, H, W, C]`, to a classifier's logits, `[N, K]`."""
    size = experiment.source.num_classes
    run = extractor(experiment, Features("logits", size, classifier.logits, "", classifier.params))
    return lambda images: rows_of(run, images, "classes")


def nearest(
    experiment: Experiment, spec: str, train: Split, shown: np.ndarray, held_out: Split
) -> tuple[tuple[neighbours.Nearest, neighbours.Nearest], dict[str, Any]]:
    """The nearest training images of samples and of held-out images.

    Args:
        experiment: the run.
        spec: plug-in string of the features in which distances are measured.
        train: the training images.
        shown: the samples, integers `[N, H, W, C]`.
        held_out: other images; a random choice of as many as samples is used, at least a thousand.

    Returns:
        Neighbours of samples and of held-out images, and a record of what was compared.
    """
    # A thousand suffice for the median and the first percentile.
    count = min(len(held_out), max(len(shown), _HELD_OUT))
    order = np.random.default_rng(experiment.config.quality.seed).permutation(len(held_out))
    features = build(experiment, spec)
    run = extractor(experiment, features)
    others = np.asarray(held_out.images[np.sort(order[:count])])
    samples, real = (neighbours.Nearest(rows_of(run, part, "features")) for part in (shown, others))
    for batch in neighbours.gathered(run(train.images, label=f"nearest in {train.name}")):
        samples.add(batch)
        real.add(batch)
    record = {**describe(spec, features), "train": train.name, "held_out": held_out.name}
    return (samples, real), record
