"""All charts of reports and files, drawn from the results of training and of the modes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion_jax.cli.report.charts import COLOURS, Chart, from_below
from diffusion_jax.cli.report.curves import Curve, Curves

_PARTS = ("prior", "diffusion", "reconstruction", "auxiliary")


def loss(
    curves: Curves, against_time: bool, unit: str, valid: str = "bits_per_dim", of: str = "training"
) -> Chart | None:
    """The training loss, the validation metric with its error band, and the test metric.

    Args:
        curves: curves of the run.
        against_time: whether the x axis is time, in hours or minutes, instead of steps.
        unit: unit of the loss.
        valid: name of the metric in validation.
        of: label of the training loss.

    Returns:
        The chart; None if there is nothing to draw.
    """
    train, held, test = (curves.get(f"{part}/{key}") for part, key in
                         (("train", "loss"), ("valid", valid), ("test", valid)))  # fmt: skip
    every = [c for c in (train, held, test) if c is not None]
    if not every or (against_time and not all(c.timed for c in every)):
        return None
    longest = max(c.seconds[-1] for c in every)
    divisor, word = (3600.0, "hours") if longest > 7200 else (60.0, "minutes")

    def x(curve: Curve) -> np.ndarray:
        return curve.seconds / divisor if against_time else curve.step

    chart = Chart(word if against_time else "step", unit)
    if train is not None:
        chart.line(x(train), train.value, of)
        from_below(chart, np.concatenate([c.value for c in (train, held) if c is not None]))
    for curve, part, label in ((held, "valid", "held out"), (test, "test", "test")):
        if curve is None:
            continue
        error = curves.get(f"{part}/standard_error")
        error = error.value if error is not None and len(error.value) == len(curve.value) else None
        if part == "test" or len(curve.step) == 1:
            chart.points(x(curve), curve.value, error, label)
        else:
            chart.line(x(curve), curve.value, label, "o-", error)
    return chart


def metric(curves: Curves, names: dict[str, str], unit: str, log: bool = False) -> Chart | None:
    """Metrics against steps.

    Args:
        curves: curves of the run.
        names: names of the metrics, with their labels.
        unit: label of the y axis.
        log: whether the y axis is logarithmic.

    Returns:
        The chart; None if none of them was logged.
    """
    chart, drawn = Chart("step", unit), False
    for name, label in names.items():
        curve = curves.get(name)
        if curve is not None and not (log and not (curve.value > 0).any()):
            chart.line(curve.step, curve.value, label if len(names) > 1 else "")
            drawn = True
    if log:
        chart.axes.set_yscale("log")
    return chart if drawn else None


def parts(curves: Curves) -> Chart | None:
    """The parts of the training loss against steps."""
    return metric(curves, {f"train/{p}": p for p in _PARTS}, "bits/dim", log=True)


def speed(curves: Curves) -> Chart | None:
    """Steps per second between log entries, including the time for everything else."""
    curve = curves.get("train/loss")
    if curve is None or not curve.timed or len(curve.step) < 3:
        return None
    seconds = np.diff(curve.seconds)
    chart = Chart("step", "steps/s")
    chart.line(curve.step[1:], np.diff(curve.step) / np.maximum(seconds, 1e-3))
    chart.axes.set_ylim(bottom=0.0)
    return chart


def _with_errors(found: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Bits/dim and standard errors; NaN for unknown errors."""
    errors = [f["standard_error"] for f in found]
    return [f["bits_per_dim"] for f in found], [math.nan if e is None else e for e in errors]


def breakdown(result: dict[str, Any]) -> Chart:
    """The parts of the bound with error bars, on a logarithmic axis."""
    chart, found = Chart("bits/dim", "", (4.2, 2.2)), result["breakdown"]
    names = [n for n in found if found[n]["bits_per_dim"] > 0]
    values, errors = _with_errors([found[n] for n in names])
    texts = [
        f"{v:.4f}" + (f" \u00b1 {e:.2g}" if np.isfinite(e) else "")
        for v, e in zip(values, errors, strict=True)
    ]
    chart.spans(names, values, errors, texts)
    return chart


def timesteps(result: dict[str, Any]) -> Chart | None:
    """The bound of models with T steps; None if only one was measured."""
    found = dict(result.get("bound_by_timesteps", {}))
    if len(found) < 2:
        return None
    names = sorted(found, key=lambda k: float("inf") if k == "infinity" else float(k))
    chart = Chart("T, steps of the model", "bits/dim", (4.2, 2.2))
    values, errors = _with_errors([found[n] for n in names])
    chart.points(np.arange(len(names)), values, errors)
    chart.axes.set_xticks(
        np.arange(len(names)), ["infinite" if n == "infinity" else n for n in names]
    )
    chart.axes.margins(x=0.25)
    return chart


def schedule(curve: dict[str, Any]) -> Chart:
    """gamma(t), the straight line between its ends, and its spread over pixels if there is one."""
    chart = _beside_line(curve, "gamma(t) = -log SNR", curve["gamma"], curve["line"])
    band = curve.get("spread")
    if band:
        chart.axes.fill_between(
            band["t"], band["low"], band["high"], alpha=0.25, label="5% to 95% of pixels"
        )
    return chart


def snr(curve: dict[str, Any]) -> Chart:
    """SNR(t) of the schedule and of the straight line."""
    chart = _beside_line(curve, "SNR(t)", curve["snr"], np.exp(-np.asarray(curve["line"])))
    chart.axes.set_yscale("log")
    return chart


def slope(curve: dict[str, Any]) -> Chart:
    """gamma'(t) of the schedule and of the straight line."""
    line = curve["line"]
    straight = np.full(len(curve["t"]), line[-1] - line[0])
    chart = _beside_line(curve, "d gamma / dt", curve["slope"], straight)
    chart.axes.set_ylim(bottom=0.0)
    return chart


def _beside_line(curve: dict[str, Any], y: str, values: Any, straight: Any) -> Chart:
    chart = Chart("t", y)
    chart.line(curve["t"], values, "schedule")
    chart.axes.plot(
        curve["t"], straight, "--", color=COLOURS[-1], label="straight line", linewidth=1.2
    )
    return chart


def loss_by_gamma(found: dict[str, Any]) -> Chart:
    """The loss by noise level, from `--mode=eval` or (with second moment) `--mode=inspect`."""
    chart = Chart("gamma (data on the left, noise on the right)", "bits/dim per gamma")
    mean = found.get("mean", found.get("bits_per_dim_per_gamma"))
    chart.line(found["gamma"], mean, "mean")
    chart.axes.fill_between(found["gamma"], 0.0, mean, color=COLOURS[0], alpha=0.12, linewidth=0)
    if "second_moment" in found:
        chart.line(found["gamma"], np.sqrt(found["second_moment"]), "root mean square", "--")
    chart.axes.set_ylim(bottom=0.0)
    return chart


def densities(found: dict[str, Any]) -> Chart:
    """The density of gamma under the schedule, a straight line, and the optimum."""
    chart = Chart("gamma", "density of gamma in training")
    for key, style in (("schedule", "-"), ("optimum", "-"), ("straight_line", "--")):
        chart.line(found["gamma"], found[key], key.replace("_", " "), style)
    chart.axes.set_ylim(bottom=0.0)
    return chart


def guide_levels(rows: list[dict[str, float]], name: str) -> Chart:
    """A metric of a guidance network against the noise level."""
    chart = Chart("gamma (noise on the right)", name)
    chart.line([r["gamma"] for r in rows], [r[name] for r in rows], style="o-")
    return chart


def rate_distortion(curve: dict[str, Any]) -> Chart:
    """PSNR of the prediction against the rate."""
    chart = Chart("rate, bits/dim", "PSNR of the prediction, dB")
    chart.line(curve["rate_bits_per_dim"], curve["psnr_db"])
    return chart


def rate_by_gamma(curve: dict[str, Any]) -> Chart:
    """Rate spent and rate remaining, against the noise level."""
    chart = Chart("gamma", "bits/dim")
    chart.line(curve["gamma"], curve["rate_bits_per_dim"], "rate when stopping here")
    chart.line(curve["gamma"], curve["remaining_bits_per_dim"], "remaining", "--")
    return chart


def encoder(shift: dict[str, Any]) -> Chart:
    """How far the encoder moves the data."""
    chart = Chart("gamma", "rms of x_t - x")
    chart.line(shift["gamma"], shift["rms"])
    return chart


def scores(title: str, values: Sequence[np.ndarray], names: Sequence[str]) -> Chart:
    """Histograms of a score on several data sets."""
    chart = Chart(title, "density")
    edges = np.histogram_bin_edges(np.concatenate(values), bins=40)
    for name, v in zip(names, values, strict=True):
        chart.histogram(v, edges, name)
    return chart


def gaps(bands: Sequence[dict[str, float]]) -> Chart:
    """The gap between held-out and training images, by bands of noise levels."""
    chart = Chart("gamma", "gap, bits/dim")
    chart.points([(b["from"] + b["to"]) / 2 for b in bands], [b["bits_per_dim"] for b in bands],
                 [b["standard_error"] for b in bands])  # fmt: skip
    chart.axes.axhline(0.0, color=COLOURS[-1], linewidth=1)
    return chart


def formats(result: dict[str, Any], others: list[dict[str, Any]]) -> Chart:
    """Bits/dim of the compressed file and of other formats, with all examples in one file."""
    rows = [("this model, net", result["net_bits_per_dim"]),
            ("this model, whole file", result["file_bits_per_dim"]),
            *((o["format"], o.get("bits_per_dim_sheet", o.get("bits_per_dim"))) for o in others
              if "missing" not in o)]  # fmt: skip
    chart = Chart("bits/dim", "", (4.2, 0.7 + 0.36 * len(rows)))
    names, values = [list(column) for column in zip(*rows, strict=True)]
    chart.bars(names, values, [f"{v:.3f}" for v in values])
    return chart


def classes(found: dict[str, Any]) -> Chart:
    """Histograms of the classes of samples and of the data."""
    chart = Chart("class", "share")
    at = np.arange(len(found["samples"]))
    for shift, key in ((-0.2, "samples"), (0.2, "data")):
        chart.axes.bar(at + shift, found[key], 0.38, color=chart.colour(), label=key)
    if len(at) <= 20:
        chart.axes.set_xticks(at)
    chart.axes.set_ylim(top=1.25 * max(*found["samples"], *found["data"]))  # space for the legend
    return chart


def sweep(weights: list[tuple[str, float, dict]], y: str) -> Chart:
    """A metric of samples against guidance weight, one line for each kind of guidance."""
    chart = Chart("guidance weight", y)
    kinds = dict.fromkeys(kind for kind, _, _ in weights)
    for kind in kinds:
        line = sorted((w, r[y]) for k, w, r in weights if k == kind)
        chart.line(*zip(*line, strict=True), kind, "o-")
    if y == "frechet":
        chart.axes.set_yscale("log")
        chart.axes.set_ylabel("Frechet distance")
    return chart


def over_steps(cards: Sequence[tuple[int, dict[str, dict[str, float]]]], of: str) -> Chart | None:
    """The share of samples that a judge finds right, against the training step.

    Args:
        cards: steps, and metrics by name with `mean` and `standard_error`.
        of: ending of the names to draw, such as `", seen"`; empty for those of all texts.
    """
    kinds = (", seen", ", unseen")
    names = dict.fromkeys(n for _, found in cards for n in found if n.startswith("right: ")
                          and (n.endswith(of) if of else not n.endswith(kinds)))  # fmt: skip
    if not names:
        return None
    chart = Chart("step", "share right")
    for name in names:
        line = sorted((step, found[name]["mean"], found[name].get("standard_error", 0.0))
                      for step, found in cards if name in found)  # fmt: skip
        steps, values, errors = zip(*line, strict=True)
        label = name.removeprefix("right: ").removesuffix(of)
        chart.line(steps, values, label, "o-", error=errors)
    chart.axes.set_ylim(0.0, 1.05)
    return chart


def calls(rows: list[dict[str, Any]]) -> Chart:
    """Frechet distance against network calls, one line for each sampler."""
    chart = Chart("network calls", "Frechet distance")
    for sampler in dict.fromkeys(r["sampler"] for r in rows):
        line = sorted((r["network_calls"], r["frechet"]) for r in rows if r["sampler"] == sampler)
        chart.line(*zip(*line, strict=True), sampler, "o-")
    chart.axes.set_xscale("log")
    chart.axes.set_yscale("log")
    return chart
