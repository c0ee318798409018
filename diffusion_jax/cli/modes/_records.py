"""Reports of modes: what all of them say of model, data and arithmetic, and how they are kept."""

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
from diffusion_jax.runtime.formatting import plus_minus
from diffusion_jax.runtime.sharding import local
from diffusion_jax.runtime.storage import alone, as_json, write_json
from diffusion_jax.types import Params


def model_record(experiment: Experiment, params: Params) -> dict[str, Any]:
    """The model and the whole configuration."""
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
    """The model that the stages of a cascade are together, and each of them."""
    told = [
        {"run": str(s.workdir), "view": s.config.view, **model_record(s, p)}
        for s, p in zip(cascade.stages, params, strict=True)
    ]
    classes = cascade.model.num_classes > 0
    return {"conditional": classes, "given": given(cascade), "stages": told}


def stage_lines(report: dict[str, Any]) -> list[str]:
    """What each stage of a cascade takes, for a table; nothing for a single run."""
    stages = report["result"].get("stages", ())
    return [
        f"  {run['view']:<28} {plus_minus(stage['bits_per_dim'], stage['standard_error'])} "
        f"{stage['share']:6.1%}; {stage['bits_per_own_value']:.4f} of {stage['values']} values"
        for stage, run in zip(stages, report["model"].get("stages", ()), strict=True)
    ]


def part_record(experiment: Experiment, found: dict[str, float]) -> dict[str, Any] | None:
    """What of the image a figure is of, and the figure per value of that; None for all of it.

    Args:
        found: `bits_per_dim` and `standard_error`, counted by the values of the image.
    """
    model, image = experiment.model, tuple(experiment.source.shape)
    of, values = part_of(model.view, image), math.prod(model.shape(image))
    if not of or experiment.stages:
        return None
    whole = math.prod(image)
    own = {k: found[k] * whole / values for k in ("bits_per_dim", "standard_error")}
    return {"of": of, "view": experiment.config.view, "values": values, "of_values": whole,
            "medium": experiment.source.medium.name, "per_own_value": own}  # fmt: skip


def of(part: dict[str, Any] | None) -> str:
    """`" of the smaller image (low(subsample()))"`, for after the unit; empty for the image."""
    return "" if part is None else f" of {part['of']} ({part['view']})"


def named(experiment: Experiment, name: str) -> str:
    """The name of the data that a figure is of, and what of the examples it is of if not all."""
    part = part_of(experiment.model.view, tuple(experiment.source.shape))
    return name + (of({"of": part, "view": experiment.config.view}) if part else "")


def part_lines(part: dict[str, Any] | None) -> list[str]:
    """The figure of a part per value of its own, for a table; nothing for the image."""
    if part is None:
        return []
    own = part["per_own_value"]
    return [
        f"  counted by the {part['of_values']} values of the {part['medium']}; by its own "
        f"{part['values']}: "
        f"{plus_minus(own['bits_per_dim'], own['standard_error'])}"
    ]


def given(experiment: Experiment) -> str:
    """What the figures are given: the class, the text, what a CLIP sees, a latent, or nothing.

    Those of a cascade are given what any of its stages is.
    """
    models = [e.model for e in experiment.stages or (experiment,)]
    parts = ["class"] * any(m.num_classes for m in models)
    parts += ["text"] * any(m.text is not None for m in models)
    parts += ["vector"] * any(m.embedding for m in models)
    parts += ["latent"] * (experiment.model.from_latent and not experiment.stages)
    return " and the ".join(parts)


def bound_record(experiment: Experiment, bounds: Bounds) -> dict[str, Any]:
    """The variational bound that is measured, of one run or of all stages, in words and numbers."""
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
    law = pixels if last.traits.pixels else "exact law given latents"
    said = [of, "continuous time", law, *([about["latent"]] if "latent" in about else [])]
    return {
        "kind": ", ".join(said),
        **about,
        "times": "stratified per image, two independent replicates"
        + ("; of each stage its own" if stages else ""),
        "proposal": "half uniform in t, half in gamma",
        "draws_per_image": c.draws,
        "reconstruction_draws": c.draws,
        "seed": c.seed,
    }


def data_record(experiment: Experiment, split: Split, limit: int) -> dict[str, Any]:
    """Which images, and a hash of them."""
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
    """What the licence of the data asks whoever shows them, or what learned from them, to say."""
    said = experiment.data.attribution
    return {"attribution": said} if said else {}


def numerics_record(experiment: Experiment) -> dict[str, Any]:
    """Types, devices and versions."""
    return {
        "dtype": experiment.config.dtype,
        "matmul_precision": experiment.config.eval.matmul_precision or "device default",
        "devices": describe_devices(),
        "jax": jax.__version__,
        "diffusion_jax": diffusion_jax.__version__,
    }


def unused(path: Path, same: Callable[[Path], bool]) -> Path:
    """The first of `6.json`, `6_2.json`, ... that is free, or of the same content already."""
    free, n = path, 1
    while free.exists() and not (free.is_file() and same(free)):
        n += 1
        free = path.with_name(f"{path.stem}_{n}{path.suffix}")
    return free


def numbered(path: Path) -> Iterator[Path]:
    """Those of `6.json`, `6_2.json`, ... that there are: what `unused` has named.

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
    """Prints a figure, then keeps it: no report takes the place of another.

    Args:
        path: of the JSON; a number is added where another report has that name.
        report: what goes into it.
        shown: the figure, for the terminal.
        beside: writes the files that lie beside a path; before the JSON, which completes them.
        names: of those files, for the terminal.

    Returns:
        Where the report is.
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
    """`folder/<step>.json`, with the split if it is not test, and then `name`."""
    split = experiment.config.eval.split
    parts = (str(step), "" if split == "test" else split, name)
    return experiment.workdir / folder / ("_".join(p for p in parts if p) + ".json")
