"""Reports of modes: the entries about model, data and arithmetic, and how reports are stored."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

import diffusion_jax
from diffusion_jax import saved_config
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import count
from diffusion_jax.data.views.base import part_of
from diffusion_jax.experiment import Experiment
from diffusion_jax.likelihood.estimators.base import Bounds
from diffusion_jax.process.schedules.base import endpoints
from diffusion_jax.runtime.distributed import describe_devices, say
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.runtime.sharding import local
from diffusion_jax.runtime.storage import alone, as_json, write_json
from diffusion_jax.types import Params


def model_record(experiment: Experiment, params: Params) -> dict[str, Any]:
    """The entry about the model, with its whole configuration."""
    gamma_0, gamma_1 = endpoints(experiment.model.schedule, local(params["schedule"]))
    config = saved_config.to_dict(experiment.config)
    return {
        "gamma_0": float(gamma_0),
        "gamma_1": float(gamma_1),
        "parameters": sum(a.size for a in jax.tree.leaves(params)),
        "conditional": experiment.model.num_classes > 0,
        "given": given(experiment),
        "config_sha256": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "config": config,
    }


def stages_record(cascade: Experiment, params: Params) -> dict[str, Any]:
    """The entry about a cascade, with one about each of its stages."""
    stages = [
        {"run": str(s.workdir), "view": s.config.view, **model_record(s, p)}
        for s, p in zip(cascade.stages, params, strict=True)
    ]
    classes = cascade.model.num_classes > 0
    return {"conditional": classes, "given": given(cascade), "stages": stages}


def stage_lines(report: dict[str, Any]) -> list[str]:
    """Lines for a table: the bits of each stage of a cascade; empty for a single run."""
    stages = report["result"].get("stages", ())
    return [
        f"  {run['view']:<28} {plus_minus(stage['bits_per_dim'], stage['standard_error'])} "
        f"{stage['share']:6.1%}; {stage['bits_per_own_value']:.4f} of {stage['values']} values"
        for stage, run in zip(stages, report["model"].get("stages", ()), strict=True)
    ]


def part_record(experiment: Experiment, found: dict[str, float]) -> dict[str, Any] | None:
    """The part of the image that a result refers to, and its bits per value; None for all of it.

    Args:
        experiment: the run.
        found: `bits_per_dim` and `standard_error`, per value of the whole image.
    """
    model, image = experiment.model, tuple(experiment.source.shape)
    of, values = part_of(model.view, image), math.prod(model.shape(image))
    if not of or experiment.stages:
        return None
    whole = math.prod(image)
    per_value = {k: found[k] * whole / values for k in ("bits_per_dim", "standard_error")}
    return {"of": of, "view": experiment.config.view, "values": values, "of_values": whole,
            "medium": experiment.source.medium.name, "per_own_value": per_value}  # fmt: skip


def of(part: dict[str, Any] | None) -> str:
    """Suffix that says which part of the image a number refers to; empty for whole images.

    For example `" of the smaller image (low(subsample()))"`, to be put after the unit.
    """
    return "" if part is None else f" of {part['of']} ({part['view']})"


def named(experiment: Experiment, name: str) -> str:
    """The name of the data that a figure is of, and what of the examples it is of if not all."""
    part = part_of(experiment.model.view, tuple(experiment.source.shape))
    return name + (of({"of": part, "view": experiment.config.view}) if part else "")


def part_lines(part: dict[str, Any] | None) -> list[str]:
    """Lines for a table: the bits per value of a part; empty for whole images."""
    if part is None:
        return []
    per_value = part["per_own_value"]
    return [
        f"  per value of the whole {part['medium']} ({part['of_values']}); per value of the part "
        f"({part['values']}): "
        f"{plus_minus(per_value['bits_per_dim'], per_value['standard_error'])}"
    ]


def noise_draws(count: int, data: dict[str, Any]) -> str:
    """For example `"32 noise draws per image"`; `data` is a `data_record`."""
    return f"{count} noise draws per {examples(data)[:-1]}"


def given(experiment: Experiment) -> str:
    """What results are conditioned on: `"class"`, `"text"`, `"vector"` (of a CLIP), `"latent"`.

    A cascade is conditioned on what any of its stages is.
    """
    models = [e.model for e in experiment.stages or (experiment,)]
    parts = ["class"] * any(m.num_classes for m in models)
    parts += ["text"] * any(m.text is not None for m in models)
    parts += ["vector"] * any(m.embedding for m in models)
    parts += ["latent"] * (experiment.model.from_latent and not experiment.stages)
    return " and the ".join(parts)


def bound_record(experiment: Experiment, bounds: Bounds) -> dict[str, Any]:
    """The entry about the variational bound, of one run or of all stages of a cascade."""
    c, stages = experiment.config.eval, experiment.stages
    models = [e.model for e in stages or (experiment,)]
    about = getattr(bounds, "describe", lambda _: {})(any(m.traits.latent_noise for m in models))
    last = models[-1]
    of = "variational bound"
    if stages:
        of = "sum of the stages' variational bounds"
    if stages and last.from_latent:
        of = "sum of the variational bounds of a latent and of the image given it"
    pixels = "discrete decoder" + "s" * (bool(stages) and not last.from_latent)
    likelihood = pixels if last.traits.pixels else "exact distribution given latents"
    words = [of, "continuous time", likelihood, *([about["latent"]] if "latent" in about else [])]
    return {
        "kind": ", ".join(words),
        **about,
        "times": "stratified per image, two independent replicates"
        + ("; separate for each stage" if stages else ""),
        "proposal": "half uniform in t, half in gamma",
        "draws_per_image": c.draws,
        "reconstruction_draws": c.draws,
        "seed": c.seed,
    }


def data_record(experiment: Experiment, split: Split, limit: int) -> dict[str, Any]:
    """The entry about the data: which images, and a hash of them."""
    return {
        "name": split.name,
        "medium": experiment.source.medium.name,
        "images": count(split, limit),
        "of": len(split),
        "shape": list(split.shape),
        "levels": split.levels,
        "sha256": split.fingerprint(),
        "augmentation_in_training": experiment.config.augment,
        **attribution(experiment),
    }


def attribution(experiment: Experiment) -> dict[str, str]:
    """Attribution required by the data's licence, if any."""
    text = experiment.data.attribution
    return {"attribution": text} if text else {}


def numerics_record(experiment: Experiment) -> dict[str, Any]:
    """The entry about arithmetic: types, devices and versions."""
    return {
        "dtype": experiment.config.dtype,
        "matmul_precision": experiment.config.eval.matmul_precision or "device default",
        "devices": describe_devices(),
        "jax": jax.__version__,
        "diffusion_jax": diffusion_jax.__version__,
    }


def unused(path: Path, same: Callable[[Path], bool]) -> Path:
    """The first of `6.json`, `6_2.json`, ... that does not exist, or has the same content."""
    free, n = path, 1
    while free.exists() and not (free.is_file() and same(free)):
        n += 1
        free = path.with_name(f"{path.stem}_{n}{path.suffix}")
    return free


def numbered(path: Path) -> Iterator[Path]:
    """The existing files among `6.json`, `6_2.json`, ..., the names given by `unused`.

    Yields:
        The first, the second, ...
    """
    found, n = path, 1
    while found.exists():
        yield found
        n += 1
        found = path.with_name(f"{path.stem}_{n}{path.suffix}")


def publish(
    path: Path,
    report: dict[str, Any],
    shown: str,
    beside: Callable[[Path], None] = lambda path: None,
    names: str = "",
) -> Path:
    """Prints a result and writes it to a new file; existing reports are never overwritten.

    Args:
        path: path of the JSON; a number is added if another report has that name.
        report: content of the JSON.
        shown: text for the terminal.
        beside: writes other files next to a path; called before the JSON is written.
        names: names of those files, for the terminal.

    Returns:
        The path of the report.
    """
    say(shown)
    if jax.process_index() == 0:
        data = as_json(report)
        with alone(path.parent):
            path = unused(path, lambda old: old.read_bytes() == data)
            beside(path)
            write_json(path, report)
    say(f"  written to {path}{names}")
    return path


def report_path(experiment: Experiment, folder: str, step: int, name: str = "") -> Path:
    """`folder/<step>.json`; the split, unless it is test, and `name` are added to the stem."""
    split = experiment.config.eval.split
    parts = (str(step), "" if split == "test" else split, name)
    return experiment.workdir / folder / ("_".join(p for p in parts if p) + ".json")
