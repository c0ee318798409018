"""Memorisation of training images, and differences between classes, measured on a run."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.description import changed, describe
from diffusion_jax.data.passes import count
from diffusion_jax.data.subset import part
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.evaluation import membership, neighbours, per_class
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import bits_per_dim, features as feature_lib, judges
from diffusion_jax.experiment.sampling.samples import Samples
from diffusion_jax.likelihood.bpd import Records
from diffusion_jax.process import time_change
from diffusion_jax.runtime.sharding import local
from diffusion_jax.runtime.storage import place
from diffusion_jax.training import restore
from diffusion_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Scored:
    """Images and their bits.

    Attributes:
        split: the images, a random choice from a split.
        rows: their indices in that split.
        records: records of the bound, with draws stratified per image.
    """

    split: Split
    rows: np.ndarray
    records: Records

    @property
    def bits(self) -> np.ndarray:
        """Bits/dim per image, `[N]`."""
        return self.records.per_image()["total"]


def enough(split: Split, limit: int) -> int:
    """The number of images of a split to score, at most `limit` (0: all).

    Raises:
        DataError: there are too few for a meaningful result.
    """
    found = count(split, limit)
    if found < membership.LEAST:
        raise DataError(
            f"audit: {found} examples of {split.name}; the comparison needs at least "
            f"{membership.LEAST} on either side (--config.eval.limit, --config.eval.split)"
        )
    return found


def choose(split: Split, limit: int, seed: int) -> tuple[Split, np.ndarray]:
    """A random choice of at most `limit` images (0: all), and their indices."""
    wanted = enough(split, limit)
    rows = np.sort(np.random.default_rng(seed).permutation(len(split))[:wanted])
    return part(split, rows), rows


def score(experiment: Experiment, params: Params, split: Split) -> Scored:
    """The bits of a random choice of a split's images.

    Times and noise depend on the seed and on an image's index in the choice, so both sides of a
    comparison use the same.
    """
    c = experiment.config.eval
    chosen, rows = choose(split, c.limit, c.seed)
    records = bits_per_dim.bound(
        experiment, params, split=chosen, label=f"bits/dim {split.name}", limit=0
    )
    return Scored(chosen, rows, records)


def check_trained_on(experiment: Experiment, record: dict[str, Any], train: Split) -> str:
    """Checks that `train` is the training set of the run.

    Returns:
        A note if that is unknown, as for published weights; else empty.

    Raises:
        DataError: the checkpoint records other images.
    """
    folder = place(record["checkpoint"])
    before = restore.read_meta(folder).get("data") if (folder / "meta").is_dir() else None
    if before is None:
        return f"there is no record that these weights were trained on {train.name}"
    now = describe(experiment.source, train)
    difference = changed(before, now)
    if difference:
        raise DataError(
            f"{train.name} is not the training set of this run (sha {now['sketch'][:12]}; it was "
            f"{str(before.get('sketch', 'unknown'))[:12]}): {difference}"
        )
    return ""


def edges(experiment: Experiment, params: Params, draws: int, count: int) -> np.ndarray:
    """The limits of the bands of noise levels, gammas `[bands + 1]`."""
    schedule, own = experiment.model.schedule, local(params["schedule"])
    at = jnp.asarray(membership.band_edges(draws // 2, count), jnp.float32)
    return np.asarray(
        jax.device_get(schedule.gamma(own, time_change.defensive(schedule, own, at)[0])), np.float64
    )


def members(
    train: Scored, test: Scored, gammas: np.ndarray, seed: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compares the bits of training images with those of others.

    Args:
        train: training images.
        test: other images from the same distribution.
        gammas: limits of the bands, from `edges`.
        seed: seed for the split into halves, on which a band is chosen and measured.

    Returns:
        The gap with its bands, and the result of a membership attack by bits.
    """
    sides = (train, test)
    parts = [membership.bands(s.records, len(gammas) - 1) for s in sides]
    bits = [s.bits for s in sides]
    rows = membership.by_band(*parts, gammas)
    difference = {
        **membership.gap(*bits),
        **{name: {"bits_per_dim": float(b.mean()), "images": len(b),
                  "standard_error": float(b.std(ddof=1) / np.sqrt(len(b)))}
           for name, b in zip(("train", "held_out"), bits, strict=True)},
        "bands": rows,
        "largest": max(rows, key=lambda r: r["bits_per_dim"]),
    }  # fmt: skip
    best = membership.best_band(*parts, seed)
    best |= {"from": rows[best["band"]]["from"], "to": rows[best["band"]]["to"]}
    return difference, {
        **membership.auroc(*bits), **membership.found(*bits), "best_band": best
    }  # fmt: skip


def copies(
    experiment: Experiment, samples: Samples, train: Split, held_out: Split
) -> tuple[dict[str, Any], neighbours.Nearest]:
    """Distances from samples to training images, compared with those of held-out images."""
    spec = experiment.config.quality.nearest
    (near, real), record = feature_lib.nearest(experiment, spec, train, samples.images, held_out)
    return neighbours.copies(near, real) | record, near


def bits_of_classes(experiment: Experiment, test: Scored) -> dict[str, Any] | None:
    """Bits/dim of each class of the held-out images."""
    return per_class.bits(test.bits, test.split.labels, experiment.config.eval.seed)


def shares_of_classes(
    experiment: Experiment, samples: Samples, train: Split, held_out: Split
) -> dict[str, Any]:
    """The classes of samples as `config.quality.classifier` sees them, corrected for its errors."""
    q = experiment.config.quality
    classifier = feature_lib.open_classifier(experiment, q.classifier, "quality.classifier")
    judge = feature_lib.classes(experiment, classifier)
    real = held_out.everything()
    errors = per_class.confusion(judge(real["image"]), real["label"], train.num_classes)
    tested = np.bincount(real["label"], minlength=train.num_classes)
    found = per_class.shares(judge(samples.images), train.labels, errors, tested, q.seed)
    return {**found, "images": len(samples.images), "judge": classifier.record}


def check(experiment: Experiment) -> None:
    """Checks the settings (`ConfigError`), before anything is read."""
    c = experiment.config
    if experiment.task.figure == "loss_by_gamma":
        raise ConfigError(
            f"--mode=audit is for models of images; {experiment.workdir} holds a "
            f"{experiment.task.holds}"
        )
    if c.eval.split not in ("valid", "test"):
        raise ConfigError(
            f"eval.split={c.eval.split!r}: audit compares train with images not trained on; "
            "allowed: valid, test"
        )
    if not c.quality.nearest:
        raise ConfigError("audit needs features to find copies by: --config.quality.nearest=pixels")
    if c.quality.classifier:
        if not c.quality.samples:
            judges.check_apart(experiment)
        feature_lib.open_classifier(experiment, c.quality.classifier, "quality.classifier")
    drawn_at_once = experiment.task.figure == "samples"
    if not (experiment.stages or drawn_at_once) and experiment.model.view.halvings:
        raise ConfigError(
            f"--mode=audit needs whole {experiment.source.medium.name}s; this run (view {c.view}) "
            "draws parts of them"
        )
