"""`--mode=inspect`: a checkpoint's schedule, its loss by noise level, and the bound's variance."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.cli.modes import _records
from diffusion_jax.cli.report import charts, figures
from diffusion_jax.data.base import Split
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import bound_variance, bpd, prediction_drift
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import endpoints
from diffusion_jax.process.time_change import reclock
from diffusion_jax.runtime import image_grids
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.runtime.sharding import local, put, replicated
from diffusion_jax.types import Array, Cond, Params

READS = ("eval",)
WRITES = ("inspect",)

_NAMES = {"straight_line": "straight line", "schedule": "this schedule", "optimum": "optimum"}
# Rows and columns of the picture of encoded images, and examples for their statistics.
_ROWS, _COLUMNS, _EXAMPLES = 6, 8, 64


def run(experiment: Experiment) -> None:
    """Inspects the newest (or the given) checkpoint; writes `inspect/<step>.json` and plots."""
    params, record = experiment.loaded
    inspect(experiment, params, record)


def inspect(experiment: Experiment, params: Params, record: dict[str, Any]) -> dict[str, Any]:
    """Inspects given weights, writes the report and the plots, and returns the report."""
    c = experiment.config.eval
    split = experiment.source.split(c.split)
    x, cond = _examples(experiment, split)
    picture = None
    with jax.default_matmul_precision(c.matmul_precision or None):
        report = {
            "model": {
                **record,
                "schedule": experiment.config.schedule,
                "encoder": experiment.config.encoder,
            },
            "schedule": bound_variance.curve(experiment.model, params),
            **_measure(experiment, params, split),
        }
        traits = experiment.model.traits
        if traits.from_latent:
            key = jax.random.key(c.seed)
            key = rng.per_example(key, len(x)) if traits.latent else key
            _, cond, _ = experiment.model.condition(params, x, cond, key)
        if traits.pixels and not (traits.time_dependent_data or traits.per_pixel_gamma):
            found = prediction_drift.drift(
                experiment.model, params, x, cond, jax.random.key(c.seed)
            )
            report["drift"] = {k: v.tolist() for k, v in dataclasses.asdict(found).items()}
        x = jnp.asarray(experiment.model.coded(params, x).mean)  # what diffuses
        if traits.latent:
            band = bound_variance.spread(experiment.model, params, x[:8], jax.random.key(c.seed))
            report["schedule"]["spread"] = band
        if traits.mean_coefficient:
            report["encoder"] = bound_variance.encoder_shift(experiment.model, params, x, cond)
            columns = np.linspace(*report["ends"].values(), _COLUMNS)
            report["encoder"]["columns"] = columns.tolist()
            picture = _encoded(experiment, params, x, cond, columns)
    path = _records.report_path(experiment, "inspect", record["step"])

    def plots(path: Path) -> None:
        _plot(path, report)
        if picture is not None:
            image_grids.save_png(path.with_name(f"{path.stem}_encoded.png"), picture)

    _records.publish(
        path,
        report,
        _table(report, _records.named(experiment, split.name)),
        plots,
        " and its plots next to it",
    )
    return report


def _examples(experiment: Experiment, split: Split) -> tuple[Array, Cond]:
    """The first images of a split in model space, and their condition."""
    rows = split.take(np.arange(min(_EXAMPLES, len(split))))
    return experiment.model.examples(jax.tree.map(jnp.asarray, rows))


def _measure(experiment: Experiment, params: Params, split: Split) -> dict[str, Any]:
    """Loss and variance from draws under the schedule, and variances under other densities."""
    c, model = experiment.config.eval, experiment.model
    objective = registry.build("objectives", "continuous()")

    def records(m: Model, p: Params, seed: int, label: str) -> bpd.Records:
        how = bits_per_dim.over(experiment)
        how = dataclasses.replace(how, seed=how.seed + seed)
        return bpd.measure(m, objective, p, split, how, draws=c.draws, label=label, defensive=False)

    own = records(model, params, 0, _NAMES["schedule"])
    found = bound_variance.draws(model, params, own)
    ends = tuple(float(g) for g in endpoints(model.schedule, local(params["schedule"])))
    by_gamma = bound_variance.loss_by_gamma(found, ends, bound_variance.bins_for(found.loss.size))
    gamma, best = bound_variance.optimum(by_gamma, ends)
    straight = np.full_like(gamma, 1.0 / (ends[1] - ends[0]))
    report = {
        "schedule": bound_variance.variance(found),
        "straight_line": bound_variance.variance(found, np.interp(found.gamma, gamma, straight)),
        "optimum": bound_variance.variance(found, np.interp(found.gamma, gamma, best)),
    }
    report["schedule"]["drawn"] = bound_variance.drawn(found)
    for seed, (name, density) in enumerate((("straight_line", straight), ("optimum", best)), 1):
        clocked, moved = reclock(model.schedule, params["schedule"], gamma, density)
        other = dataclasses.replace(model, schedule=clocked)
        given = {
            **params,
            "schedule": jax.tree.map(lambda a: put(a, replicated(experiment.mesh)), moved),
        }
        measured = records(other, given, seed, _NAMES[name])
        report[name]["drawn"] = bound_variance.drawn(bound_variance.draws(other, given, measured))
    least = {k: v["variance"] for k, v in report.items()}
    return {
        "ends": {"gamma_0": ends[0], "gamma_1": ends[1]},
        "data": {"name": split.name, "medium": experiment.source.medium.name,
                 "images": len(own.prior), "draws_per_image": c.draws, "seed": c.seed},
        "result": bpd.summary(own),
        "loss_by_gamma": by_gamma,
        "variance": {
            "unit": "(bits/dim)^2, one draw of the continuous-time diffusion term",
            **{name: report[name] for name in _NAMES},
            "between_images": bound_variance.variance_between_images(found),
            "ratios": {
                "straight_line_to_schedule": _ratio(least, "straight_line", "schedule"),
                "straight_line_to_optimum": _ratio(least, "straight_line", "optimum"),
                "schedule_to_optimum": _ratio(least, "schedule", "optimum"),
            },
        },
        "densities": {
            "gamma": gamma[::20].tolist(),
            "straight_line": straight[::20].tolist(),
            "schedule": bound_variance.schedule_density(model, params, gamma[::20]).tolist(),
            "optimum": best[::20].tolist(),
        },
    }  # fmt: skip


def _ratio(variances: dict[str, float], above: str, below: str) -> float | None:
    """Ratio of two variances; None if the second is not positive, as with few draws."""
    return variances[above] / variances[below] if variances[below] > 0 else None


def _encoded(
    experiment: Experiment, params: Params, x: Array, cond: Cond, columns: np.ndarray
) -> np.ndarray | None:
    """Encoded examples in rows, gammas in columns; None for latents and for parts of images."""
    source = experiment.source
    if not experiment.model.traits.pixels or not source.medium.fits(x.shape[1:]):
        return None
    few = {k: v[:_ROWS] for k, v in cond.items()}
    stored = bound_variance.encoded(experiment.model, params, x[:_ROWS], few, columns)
    return image_grids.grid(
        source.medium.stills(stored, source.levels), source.levels, len(columns)
    )


def _plot(path: Path, report: dict[str, Any]) -> None:
    """Writes all plots next to the report."""

    def name(what: str) -> Path:
        return path.with_name(f"{path.stem}_{what}.png")

    curve = report["schedule"]
    three = (figures.schedule(curve), figures.snr(curve), figures.slope(curve))
    charts.save(name("schedule"), *three)
    charts.save(name("loss"), figures.loss_by_gamma(report["loss_by_gamma"]))
    charts.save(name("proposal"), figures.densities(report["densities"]))
    if "encoder" in report:
        charts.save(name("encoder"), figures.encoder(report["encoder"]))


def _drift_lines(drift: dict[str, Any] | None) -> list[str]:
    """The largest drift of the prediction along the reverse process; a perfect network has none."""
    if drift is None:
        return []
    i = int(np.argmax(drift["mean"]))
    shown = f"{drift['mean'][i]:.2g} +- {_known(drift['standard_error'][i], '.1g')}"
    return [
        f"  squared drift of x_hat along the reverse process: {shown} a value at most, from gamma "
        f"{drift['gamma'][i]:.2f} to {drift['end'][i]:.2f}; 0 for a perfect network"
    ]


def _known(value: float, form: str) -> str:
    """A statistic of the spread of images, which is unknown for a single image."""
    return f"{value:{form}}" if math.isfinite(value) else "unknown"


def _table(report: dict[str, Any], name: str) -> str:
    v, data, ends = report["variance"], report["data"], report["ends"]
    bits = report["result"]["breakdown"]["diffusion"]
    ratios = {k: "-" if r is None else _known(r, ".3g") for k, r in v["ratios"].items()}
    lines = [
        f"{name}, {data['images']} {examples(data)}, "
        f"{_records.noise_draws(data['draws_per_image'], data)}: "
        f"gamma from {ends['gamma_0']:.3f} to {ends['gamma_1']:.3f}, diffusion term "
        f"{plus_minus(bits['bits_per_dim'], bits['standard_error'])} bits/dim",
        "  gamma drawn by     variance of one draw     drawn again: variance, mean",
        *(
            f"  {label:<15} {v[k]['variance']:12.5g} +- "
            f"{_known(v[k]['standard_error'], '.2g'):<9} "
            f"{v[k]['drawn']['variance']:12.5g}, {v[k]['drawn']['mean']:.4f} +- "
            f"{_known(v[k]['drawn']['standard_error'], '.4f')}"
            for k, label in _NAMES.items()
        ),
        f"  between {examples(data)} {_known(v['between_images'], '13.5g'):>13}, which no schedule "
        "removes",
        f"  ratios: straight line / schedule {ratios['straight_line_to_schedule']}, "
        f"schedule / optimum {ratios['schedule_to_optimum']}",
        *_drift_lines(report.get("drift")),
    ]
    return "\n".join(lines)
