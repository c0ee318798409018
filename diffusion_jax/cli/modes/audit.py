"""`--mode=audit`: memorisation of training images, and differences between classes.

Each result is printed next to its value by chance alone. These tests can detect memorisation or
unequal treatment of classes, but cannot prove their absence, and the verdict says so.
"""

from typing import Any

import jax
import numpy as np

from diffusion_jax import registry
from diffusion_jax.cli.modes import _audit_table, _records
from diffusion_jax.data.base import Split
from diffusion_jax.errors import CheckpointError, ConfigError, DataError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import memorisation, run_agreement
from diffusion_jax.experiment.sampling import run_sampler, samples as samples_lib
from diffusion_jax.experiment.sampling.samples import Samples
from diffusion_jax.likelihood import bpd
from diffusion_jax.runtime.storage import place, write_arrays
from diffusion_jax.training import restore
from diffusion_jax.types import Params

READS = (
    "audit", "eval", "sampling", "sample", "quality.samples", "quality.classifier",
    "quality.nearest", "quality.batch", "quality.seed",
)  # fmt: skip
WRITES = ("audit",)


def run(experiment: Experiment) -> None:
    """Audits a run and its samples, which are drawn or read from `quality.samples`.

    Writes `audit/<step>.json` and values per image (npz).
    """
    check(experiment)
    params, record = _weights(experiment)
    if experiment.config.audit.against and params is None:
        raise ConfigError("audit.against compares two runs; this one has no checkpoint")
    if against := experiment.config.audit.against:  # checked before anything is scored
        run_agreement.as_drawn(experiment, run_agreement.open_other(experiment, against))
    train = experiment.source.split("train")
    held_out = experiment.source.split(experiment.config.eval.split)
    _trained_on(experiment, record, train)  # checked before samples are drawn
    if _scored(experiment, params):
        for split in (train, held_out):
            memorisation.enough(split, experiment.config.eval.limit)
    with jax.default_matmul_precision(experiment.config.eval.matmul_precision or None):
        audit(experiment, params, record, _samples(experiment), train, held_out)


def _samples(experiment: Experiment) -> Samples | None:
    """The samples of a file, or new ones; None if there are to be none."""
    if path := experiment.config.quality.samples:
        return samples_lib.read(experiment, place(path))
    if experiment.config.sample.num:
        return next(samples_lib.draw(experiment, 1))
    return None


def check(experiment: Experiment) -> None:
    """Checks the settings before anything expensive happens."""
    c = experiment.config
    memorisation.check(experiment)
    bpd.check_draws("eval.draws", c.eval.draws)
    if experiment.task.figure == "samples" and not c.quality.samples:
        raise ConfigError(
            f"--mode=audit: {c.task} has no likelihood of {experiment.source.medium.name}s; give "
            "its samples, --config.quality.samples=FILE, to search them for copies"
        )
    path = place(c.quality.samples or ".")
    if c.quality.samples and not (path.is_file() or path.is_dir()):
        raise DataError(f"quality.samples: there is no file {c.quality.samples}")
    if not c.quality.samples and c.sample.num:
        run_sampler.check(experiment)
    if c.audit.against:
        if experiment.task.figure == "samples":
            raise ConfigError(
                f"audit.against={c.audit.against!r} compares two diffusion models; "
                f"{experiment.workdir} contains {c.task}"
            )
        run_agreement.open_other(experiment, c.audit.against)


def _weights(experiment: Experiment) -> tuple[Params | None, dict[str, Any]]:
    """The weights and their record; None if samples of another model are given instead."""
    if experiment.task.figure == "samples":  # a GAN
        return None, {}
    if experiment.config.quality.samples and not experiment.checkpoint:
        try:
            restore.locate(experiment.workdir)
        except CheckpointError:
            return None, {}
    return experiment.loaded


def _trained_on(experiment: Experiment, record: dict[str, Any], train: Split) -> str:
    """`memorisation.check_trained_on`; empty for samples of an unknown model."""
    if not record:
        try:
            newest = restore.locate(experiment.checkpoint or experiment.workdir)[0]
        except CheckpointError:
            return ""
        record = {"checkpoint": str(newest)}
    return memorisation.check_trained_on(experiment, record, train)


def _scored(experiment: Experiment, params: Params | None) -> bool:
    """Whether there are weights with a likelihood."""
    return params is not None and experiment.model.traits.likelihood


def audit(
    experiment: Experiment,
    params: Params | None,
    record: dict[str, Any],
    samples: Samples | None,
    train: Split,
    held_out: Split,
) -> dict[str, Any]:
    """Runs every test for which the inputs exist, writes everything and returns the report.

    Args:
        experiment: the run.
        params: weights; None for samples of an unknown model.
        record: record of the weights.
        samples: samples to search for copies; None to skip that.
        train: training data of the model.
        held_out: other images from the same distribution.
    """
    c = experiment.config
    result: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    left, notes = [], [note for note in [_trained_on(experiment, record, train)] if note]
    limit = c.eval.limit if _scored(experiment, params) else 0  # copies are searched in all images
    if params is None:
        left.append("bits: there are only samples, and no model with a likelihood of "
                    f"{experiment.source.medium.name}s")  # fmt: skip
    elif not experiment.model.traits.likelihood:
        left.append(f"bits: a student has no likelihood (its teacher is "
                    f"{experiment.model.teacher})")  # fmt: skip
    else:
        notes += _about(experiment)
        scored = [memorisation.score(experiment, params, s) for s in (train, held_out)]
        gammas = memorisation.edges(experiment, params, c.eval.draws, c.audit.bands)
        result["gap"], result["membership"] = memorisation.members(*scored, gammas, c.eval.seed)
        for name, side in zip(("train", "held_out"), scored, strict=True):
            arrays |= {f"{name}_rows": side.rows, f"{name}_bits_per_dim": side.bits}
        if train.num_classes:
            result["bits_of_classes"] = memorisation.bits_of_classes(experiment, scored[1])
    if not train.num_classes:
        left.append(f"classes: {train.name} has no labels")
    if samples is None:
        left.append("copies: no samples (--config.sample.num=0)")
    else:
        result["copies"], near = memorisation.copies(experiment, samples, train, held_out)
        arrays |= {"sample_distance": near.distance, "sample_second": near.second,
                   "sample_nearest": near.index}  # fmt: skip
        if train.num_classes and c.quality.classifier:
            result["shares_of_classes"] = memorisation.shares_of_classes(
                experiment, samples, train, held_out
            )
            notes += _dealt(experiment, samples)
            if "corrected" not in result["shares_of_classes"]["least"]:
                notes.append("the judge confuses some classes: shares are not corrected")
        elif train.num_classes:
            left.append("classes of samples: no judge (--config.quality.classifier=DIR)")
    if c.audit.against:
        result["agreement"] = run_agreement.measure(
            experiment, run_agreement.open_other(experiment, c.audit.against)
        )
    report = {
        "result": result,
        "notes": notes,
        "left_out": left,
        "draws_per_image": c.eval.draws,
        "seed": c.eval.seed,
        "samples": None if samples is None else samples.record,
        "data": _records.data_record(experiment, train, limit),
        "held_out": _records.data_record(experiment, held_out, limit),
        "model": {} if params is None else {**record, **_records.model_record(experiment, params)},
        "numerics": _records.numerics_record(experiment),
    }
    stem = str(record.get("step", samples.stem if samples else "samples"))
    _records.publish(
        experiment.workdir / "audit" / f"{stem}.json", report,
        _audit_table.table(report, experiment.source.classes),
        lambda path: write_arrays(path.with_suffix(".npz"), **arrays), " and .npz",
    )  # fmt: skip
    return report


def _about(experiment: Experiment) -> list[str]:
    """Notes on the part of an image that is scored, and on augmentation, if there are any."""
    part, augment = _records.named(experiment, ""), experiment.config.augment
    notes = [f"bits/dim are{part}, counted by the values of the whole"] if part else []
    if augment not in ("none()", "none"):
        notes.append(f"scores are of original images; in training they were augmented by {augment}")
    return notes


def _dealt(experiment: Experiment, samples: Samples) -> list[str]:
    """A warning if equal numbers of samples were requested of each class."""
    guidance = registry.build("guidance", experiment.config.guidance)
    unconditional = getattr(guidance, "unconditional", False)
    ignored = not experiment.config.quality.samples and unconditional
    if ignored or samples.labels is None or np.ptp(np.bincount(samples.labels)) > 1:
        return []
    return [
        "equal numbers of samples of each class were requested: shares show how often they "
        "succeeded, not the model's own distribution (--config.guidance='cfg(w=0.0)')"
    ]
