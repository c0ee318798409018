"""`--mode=quality`: quality of samples, in a card with everything that the metrics depend on."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

import diffusion_jax
from diffusion_jax.cli.modes import _records
from diffusion_jax.data.base import SPLITS
from diffusion_jax.data.views.base import stages_of, told_by
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.evaluation import quality
from diffusion_jax.experiment import Experiment, assembly
from diffusion_jax.experiment.measures import features, judges, sample_quality as quality_lib
from diffusion_jax.experiment.sampling import (
    asked,
    generators,
    low_images,
    priors,
    run_sampler,
    samples as samples_lib,
)
from diffusion_jax.runtime import image_grids
from diffusion_jax.runtime.distributed import describe_devices
from diffusion_jax.runtime.formatting import examples
from diffusion_jax.runtime.storage import place

READS = ("stages", "quality", "sampling", "sample", "eval")
WRITES = ("quality", "statistics")

_SETTINGS = ("metrics", "k", "subset", "rows", "seed", "nearest", "floor")


def run(experiment: Experiment) -> None:
    """Measures samples; writes `quality/<name>.json` and a picture of nearest training images."""
    q = experiment.config.quality
    check(experiment)
    if q.samples:
        sets: Iterable = [samples_lib.read(experiment, place(q.samples))]
    else:
        sets = samples_lib.draw(experiment, q.repeats)
    measure(experiment, sets)


def check(experiment: Experiment) -> None:
    """Checks the settings (`ConfigError`), before anything expensive happens."""
    q = experiment.config.quality
    check_settings(experiment)
    assembly.check_named(experiment)
    for field in ("samples", "reference"):
        path = place(q[field] or ".")
        if q[field] and not (path.is_file() or (field == "samples" and path.is_dir())):
            raise DataError(f"quality.{field}: there is no file {q[field]}")
    if q.samples:
        return
    judges.check_apart(experiment)
    run_sampler.check(experiment)
    if q.judge and not experiment.stages:
        asked.check_judge(experiment, q.judge)
    if experiment.stages or generators.generates(experiment):
        return
    view = experiment.model.view
    if view.halvings:
        raise ConfigError(
            f"quality: this run (view {experiment.config.view}) draws "
            f"{told_by(view)} and not whole examples; measure all stages together, "
            f"--config.stages={stages_of(view)}"
        )
    low_images.named(experiment)
    priors.need(experiment)


def check_settings(experiment: Experiment) -> None:
    """The part of `check` that needs no files; training runs it too."""
    q = experiment.config.quality
    quality.check(tuple(q.metrics))
    for field in ("split", "floor"):
        if q[field] not in SPLITS and not (field == "floor" and not q.floor):
            raise ConfigError(
                f"quality.{field}={q[field]!r} does not exist; choose from {', '.join(SPLITS)}"
            )
    if q.floor == q.split:
        raise ConfigError(
            f"quality.floor={q.floor!r} is the reference itself; choose another split, or ''"
        )
    if q.repeats < 1 or q.k < 1 or q.subset < 2:
        raise ConfigError(
            f"quality.repeats={q.repeats} and quality.k={q.k} must be at least 1, "
            f"quality.subset={q.subset} at least 2"
        )
    if q.samples and q.repeats > 1:
        raise ConfigError("quality.repeats: a file of samples can be measured only once")


def measure(experiment: Experiment, sets: Iterable[samples_lib.Samples]) -> dict[str, Any]:
    """Measures repeated sets of samples; writes the card and returns it."""
    with jax.default_matmul_precision(experiment.config.eval.matmul_precision or None):
        q = experiment.config.quality
        count = experiment.config.sample.num
        if q.samples:
            sets = [*sets]
            count = len(sets[0].images)
        bench = quality_lib.open_bench(experiment, count)
        floor = bench.floor()
        drawn, results, picture = [], [], None
        for samples in sets:
            found, shown = bench.figures(samples)
            drawn.append(samples)
            results.append(found)
            picture = shown if picture is None else picture
        if floor is not None:
            floor["samples_at_this_size"] = bench.at_size(drawn[0].images, floor["images"])
    card = {
        "medium": experiment.source.medium.name,
        "result": quality_lib.summary([quality_lib.headline(r) for r in results]),
        "floor": floor,
        "figures": results,
        "samples": _join([s.record for s in drawn]),
        "reference": bench.record,
        **_records.attribution(experiment),
        "features": features.describe(experiment.config.quality.features, bench.features),
        "classifier": None if bench.classifier is None else bench.classifier.record,
        "settings": {k: experiment.config.quality[k] for k in _SETTINGS}
        | {k: q[k] for k in ("judge", "clip") if q[k]},
        "numerics": {
            "dtype": experiment.config.dtype,
            "matmul_precision": experiment.config.eval.matmul_precision or "device default",
            "moments": "float64",
            "devices": describe_devices(),
            "diffusion_jax": diffusion_jax.__version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "numpy": np.__version__,
        },
    }
    path = (
        experiment.workdir / "quality" / f"{drawn[0].stem}_{bench.features.name}_{_tag(card)}.json"
    )

    def beside(path: Path) -> None:
        if picture is not None:
            image_grids.save_png(path.with_suffix(".png"), picture)

    names = "" if picture is None else f" and .png (nearest training {examples(card)})"
    _records.publish(path, card, _table(card), beside, names)
    return card


def _join(records: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of all sets: shared values once, differing ones as lists."""
    same = {k: v for k, v in records[0].items() if all(r[k] == v for r in records)}
    other = {k: [r[k] for r in records] for k in records[0] if k not in same}
    if "seed" in records[0]:
        other["seed"] = [r["seed"] for r in records]
    return {**same, **other, "sets": len(records)}


def _tag(card: dict[str, Any]) -> str:
    """A short hash of the inputs, so that different measurements have different files."""
    what = [card[k] for k in ("samples", "reference", "features", "classifier", "settings")]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def _value(value: float, error: float | None) -> str:
    return f"{value:9.5g}" + ("" if error is None else f" +- {error:.2g}")


def _table(card: dict[str, Any]) -> str:
    s, reference, features = card["samples"], card["reference"], card["features"]
    many = examples(card)
    floor = quality_lib.headline(card["floor"]) if card["floor"] else {}
    how = [f"{s[k]}" for k in ("sampler", "guidance") if k in s]
    if "final" in s:  # for latents, the most probable and the sampled images differ a lot
        how.append(f"final={s['final']}")
    if "network_calls" in s:
        how.append(f"{s['network_calls']} network calls")
    if "weights" in s:
        how.append(f"weights {s['weights']} at step {s['step']}")
    lines = [
        f"{s['sets']} x {s['images']} samples against {reference['split']} "
        f"({reference['images']} {many}) in {features['features']}, {features['size']} features"
        + (f": {', '.join(how)}" if how else ""),
        "                            samples" + (f"                 real {many}" if floor else ""),
    ]
    for name, found in card["result"].items():
        lines.append(f"  {name:<24}{_value(found['mean'], found.get('standard_error')):<24}"
                     + (_value(*floor[name]) if name in floor else ""))  # fmt: skip
    if card["floor"]:
        f = card["floor"]
        lines.append(f"  real {many}: {f['images']} of {f['split']}")
        here = f["samples_at_this_size"].get("frechet", {}).get("value")
        if here is not None:
            lines.append(f"  frechet of the same number of samples: {here:.5g}")
        if f["halves"]:
            lines.append(
                f"  frechet between halves of the reference, {f['halves']['images']} {many} each: "
                f"{f['halves']['frechet']:.5g}"
            )
    least = card["figures"][0].get("classes", {}).get("least_represented")
    if least:
        lines.append(
            f"  least represented: class {least['class']}, {least['ratio']:.3f} x its share"
        )
    return "\n".join(lines)
