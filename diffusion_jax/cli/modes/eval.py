"""`--mode=eval`: bits per dimension with standard errors, breakdown and protocol."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_jax import ranges, registry
from diffusion_jax.cli.modes import _eval_cascade, _eval_density, _eval_guide, _known, _records
from diffusion_jax.data.base import SPLITS
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import bpd
from diffusion_jax.likelihood.estimators.base import Bounds
from diffusion_jax.model import need_likelihood
from diffusion_jax.runtime import storage
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.training.state import ema_key
from diffusion_jax.types import Params

READS = ("eval", "stages")
WRITES = ("eval",)


def run(experiment: Experiment) -> None:
    """Evaluates `config.eval.likelihood`; writes `eval/<step>.json` and `.npz`."""
    if experiment.stages:
        _eval_cascade.evaluate(experiment)
        return
    check(experiment)
    params, record = experiment.weights(experiment.config.eval.weights)
    chosen(_FIGURES, experiment)(experiment, params, record)


def _bits_per_dim(experiment: Experiment, params: Params, record: dict[str, Any]) -> None:
    likelihood = registry.build("likelihood", experiment.config.eval.likelihood)
    if isinstance(likelihood, Bounds):
        evaluate(experiment, params, record, likelihood)
    else:
        _eval_density.evaluate(experiment, likelihood, params, record)


def chosen(table: dict[str, Callable], experiment: Experiment) -> Callable:
    """Looks up the table entry for the task's metric, or raises ConfigError."""
    task = experiment.task
    if task.figure not in table:
        raise ConfigError(
            f"task {experiment.config.task} declares figure={task.figure!r}, which cannot be "
            f"measured; allowed: {', '.join(table)}"
        )
    return table[task.figure]


def _of_students(experiment: Experiment, params: Params, record: dict[str, Any]) -> None:
    """Measures the density of a flow map, the only likelihood that students have."""
    likelihood = registry.build("likelihood", experiment.config.eval.likelihood)
    if not getattr(likelihood, "of_students", False):
        need_likelihood(experiment.model, "--mode=eval")
    _eval_density.evaluate(experiment, likelihood, params, record)


def _none(experiment: Experiment, *_: Any) -> None:
    """Raises ConfigError for a model without a density."""
    raise ConfigError(
        f"--mode=eval: {experiment.config.task} has no likelihood, it only draws samples; "
        "--mode=quality measures them"
    )


# The evaluation for each metric that a task can declare.
_FIGURES = {"bits_per_dim": _bits_per_dim, "loss_by_gamma": _eval_guide.evaluate,
            "agreement": _of_students, "samples": _none}  # fmt: skip


def check(experiment: Experiment) -> None:
    """Checks the settings of an evaluation, before anything is read."""
    _check_common(experiment)
    likelihood = registry.build("likelihood", experiment.config.eval.likelihood)
    if experiment.task.figure != "bits_per_dim":
        return
    if isinstance(likelihood, Bounds):
        _check_bounds(experiment, likelihood)
    else:
        likelihood.check(experiment.model)


def check_bound(experiment: Experiment) -> None:
    """The part of `check` that is about the bound in continuous time, whatever `likelihood` is."""
    _check_common(experiment)
    bpd.check_draws("eval.draws", experiment.config.eval.draws)


def check_training(experiment: Experiment) -> None:
    """Checks the settings of evaluation during training and at its end."""
    _check_common(experiment)
    if experiment.task.figure == "bits_per_dim":
        _check_bounds(experiment, registry.build("likelihood", "elbo()"))
    _check_unused(experiment)
    if experiment.task.figure == "bits_per_dim" and experiment.config.eval_every:
        bpd.check_draws("valid_draws", experiment.config.valid_draws)


def _check_unused(experiment: Experiment) -> None:
    """Raises ConfigError for settings of `eval` that training would ignore."""
    c = experiment.config
    unused = {
        "weights": (c.eval.weights, ("", ema_key(c.ema[0]))),
        "checkpoint": (c.eval.checkpoint, ("latest",)),
        "likelihood": (c.eval.likelihood, ("elbo()", "elbo")),
    }
    for name, (value, followed) in unused.items():
        if value not in followed:
            raise ConfigError(
                f"eval.{name}={value!r}: training measures the bound of the first average (of ema) "
                "after the last step; leave it out, and set it in --mode=eval"
            )


def _check_common(experiment: Experiment) -> None:
    """Checks settings of all evaluations, including those of guidance networks."""
    c = experiment.config.eval
    if c.batch < 1 or c.limit < 0:
        raise ConfigError(
            f"eval.batch={c.batch} must be at least 1 and eval.limit={c.limit} at least 0 (all)"
        )
    if c.split not in SPLITS:
        raise ConfigError(f"eval.split={c.split!r} does not exist; choose from {', '.join(SPLITS)}")
    ranges.check_precision(c.matmul_precision)


def _check_bounds(experiment: Experiment, bounds: Bounds) -> None:
    bounds.objectives(tuple(experiment.config.eval.timesteps))
    bpd.check_draws("eval.draws", experiment.config.eval.draws)


def evaluate(
    experiment: Experiment, params: Params, record: dict[str, Any], bounds: Bounds | None = None
) -> dict[str, Any]:
    """Evaluates bounds (by default `elbo()`), writes the report and returns it."""
    c = experiment.config.eval
    bounds = bounds or registry.build("likelihood", "elbo()")
    objectives = bounds.objectives(tuple(c.timesteps))
    split = experiment.source.split(c.split)
    records = bits_per_dim.bound(experiment, params, objectives.pop("infinity"), label="bits/dim")
    discrete = {
        steps: bits_per_dim.bound(experiment, params, objective, label=f"T={steps}")
        for steps, objective in objectives.items()
    }
    result = bpd.summary(records)
    by_steps = {k: _short(bpd.summary(r)) for k, r in discrete.items()}
    report = {
        "result": {**result, "bound_by_timesteps": {**by_steps, "infinity": _short(result)}},
        "estimator": _records.bound_record(experiment, bounds),
        "model": {**record, **_records.model_record(experiment, params)},
        "data": _records.data_record(experiment, split, c.limit),
        "numerics": _records.numerics_record(experiment),
        "loss_by_gamma": bpd.loss_by_gamma(experiment.model, params, records),
    }
    part = _records.part_record(experiment, result)
    if part is not None:
        report["result"]["part"] = part
    known = _known.record(experiment, records.per_image()["total"] * records.dims)
    if known is not None:
        report["result"]["known"] = known
    if not experiment.model.traits.pixels:
        report["result"]["latent"] = _latent(experiment, records)
    _records.publish(
        report_path(experiment, record["step"]), report, _table(report, split.name),
        lambda path: _write_records(path.with_suffix(".npz"), records),
    )  # fmt: skip
    return report


def report_path(experiment: Experiment, step: int) -> Path:
    """The path of the report of `step`: `eval/<step>.json`, with the split's name unless test."""
    return _records.report_path(experiment, "eval", step)


def _latent(experiment: Experiment, records: bpd.Records) -> dict[str, Any]:
    """Splits the bits into those of the latent z_0 and those of the image given it."""
    parts = records.per_image()
    given = parts["reconstruction"]
    shape = experiment.model.z_shape(experiment.source.shape)
    return {
        "shape": list(shape),
        "values": math.prod(shape),
        "in_z_0": bpd.mean_se(parts["total"] - given),
        "of_x_given_z_0": bpd.mean_se(given),
    }


def _short(summary: dict[str, Any]) -> dict[str, float]:
    return {k: summary[k] for k in ("bits_per_dim", "standard_error", "monte_carlo_se")}


def _write_records(path: Path, records: bpd.Records) -> None:
    raw = {
        f"nats_{k}": v
        for k, v in dataclasses.asdict(records).items()
        if k != "dims" and v is not None
    }
    raw["t"], raw["weight"] = raw.pop("nats_t"), raw.pop("nats_weight")
    bits = {f"bits_per_dim_{k}": v for k, v in records.per_image().items()}
    storage.write_arrays(path, dims=records.dims, **raw, **bits)


def _latent_lines(report: dict[str, Any]) -> list[str]:
    latent, medium = report["result"].get("latent"), report["data"]["medium"]
    if latent is None:
        return []
    how = report["estimator"].get("latent")
    inside, given = (latent[k] for k in ("in_z_0", "of_x_given_z_0"))
    shape = "x".join(map(str, latent["shape"]))
    return [
        f"  in the latent z_0 ({shape}) "
        f"{plus_minus(inside['bits_per_dim'], inside['standard_error'])}, "
        f"of the {medium} given it {plus_minus(given['bits_per_dim'], given['standard_error'])}"
        + (f"; {how}" if how else "")
    ]


def _table(report: dict[str, Any], name: str) -> str:
    r, m = report["result"], report["model"]
    given = m["given"] and f", given the {m['given']}"
    lines = [
        f"{name} bits/dim{_records.of(r.get('part'))}{given}: "
        f"{plus_minus(r['bits_per_dim'], r['standard_error'])} "
        f"(s.e. over {r['images']} {examples(report['data'])}; "
        f"Monte-Carlo s.e. {r['monte_carlo_se']:.4f}, "
        f"{_records.noise_draws(r['draws_per_image'], report['data'])})",
        *_records.part_lines(r.get("part")),
        *(
            f"  {part:<15} {plus_minus(v['bits_per_dim'], v['standard_error'])}"
            for part, v in r["breakdown"].items()
        ),
        *_latent_lines(report),
        *_known.lines(r.get("known"), r.get("part")),
        "  bound with T steps: "
        + ", ".join(f"T={k}: {v['bits_per_dim']:.4f}" for k, v in r["bound_by_timesteps"].items()),
        f"  weights {m['weights']} at step {m['step']}, gamma from {m['gamma_0']:.3f} to "
        f"{m['gamma_1']:.3f}",
    ]
    return "\n".join(lines)
