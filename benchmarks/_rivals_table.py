"""The table of rivals: mean and standard error over the seeds of a row, and the worst seed."""

import math
import statistics
from typing import Any

FIGURES = ("frechet", "kid", "precision", "recall", "density", "coverage", "accuracy")


def collapsed(row: dict[str, Any]) -> bool:
    """Whether recall is below 0.2, or modes are below nine tenths of a perfect sampler's."""
    lost = "modes" in row and row["modes"]["found"] < 0.9 * row["modes"]["floor_found"]
    return lost or (row["recall"] is not None and row["recall"] < 0.2)


def _mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None and not math.isnan(v)]
    if not known:
        return "none"
    mean = statistics.mean(known)
    if len(known) == 1:
        return f"{mean:.4g}"
    return f"{mean:.4g} +- {statistics.stdev(known) / len(known) ** 0.5:.2g}"


def _variation(rows: list[dict[str, Any]]) -> str:
    """The total variation of class frequencies from the data's, and a perfect sampler's."""
    known = [r for r in rows if "variation" in r]
    if not known:
        return ""
    found, noise = _mean([r["variation"] for r in known]), known[0]["variation_by_chance"]
    if len(known) == 1:
        found += " [{:.3g}, {:.3g}]".format(*noise["interval"])
    return f"{found}, chance {noise['chance']:.2g}"


def _errs(rows: list[dict[str, Any]]) -> str:
    """The judge's error rate on real images; for stacked images, on single channels."""
    return next((f"{r['judge_errs']:.1%}" for r in rows if "judge_errs" in r), "")


def _bits(rows: list[dict[str, Any]]) -> str:
    """Bits/dim: bounds, or densities, which are marked as such."""
    found = _mean([r["bits_per_dim"] for r in rows])
    exact = any(r.get("bound") is False for r in rows)
    return f"{found} (density, no bound)" if exact else found


def _average(sets: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of a run's rows over its sets of samples."""
    first = sets[0]
    numbers = [k for k, v in first.items() if isinstance(v, float)]
    mean = first | {k: statistics.mean(r[k] for r in sets) for k in numbers}
    if "modes" in first:
        mean["modes"] = {k: statistics.mean(r["modes"][k] for r in sets) for k in first["modes"]}
    return mean


def by_run(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows to average: one for each run, or for a single run one for each set of samples."""
    runs: dict[Any, list[dict[str, Any]]] = {}
    for r in rows:
        runs.setdefault(r.get("run"), []).append(r)
    return rows if len(runs) == 1 else [_average(sets) for sets in runs.values()]


def show(rows: list[dict[str, Any]]) -> str:
    """The table in markdown: mean and standard error over seeds, and the worst seed."""
    heads = ("", "calls", "ms for one", "images/s", "training core-s", "weights", "Frechet",
             "worst", "KID", "precision", "recall", "density", "coverage", "class accuracy",
             "total variation of classes", "modes", "KL, nats", "judge errs", "bits/dim",
             "collapsed")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(r["name"] for r in rows):
        own = by_run([r for r in rows if r["name"] == name])
        of = {k: _mean([r[k] for r in own]) for k in (*FIGURES, "ms_for_one", "images_per_s",
                                                      "core_s")}  # fmt: skip
        modal = [r["modes"] for r in own if "modes" in r]
        cells = (
            name, str(own[0]["calls"]), of["ms_for_one"], of["images_per_s"], of["core_s"],
            f"{own[0]['weights']:,}", of["frechet"], f"{max(r['frechet'] for r in own):.4g}",
            of["kid"], of["precision"], of["recall"], of["density"], of["coverage"],
            of["accuracy"], _variation(own),
            f"{_mean([m['found'] for m in modal])} of {modal[0]['modes']}" if modal else "",
            f"{_mean([m['kl'] for m in modal])}, floor {modal[0]['floor_kl']:.2g}" if modal else "",
            _errs(own), _bits(own), f"{sum(map(collapsed, own))} of {len(own)}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
