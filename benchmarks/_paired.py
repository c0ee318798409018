"""Tables of runs measured with the same times and noise: means over seeds, paired differences."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _common
from diffusion_jax.likelihood import bpd
from diffusion_jax.runtime.wording import plus_minus


def records(path: Path) -> bpd.Records:
    """What an evaluation wrote of every image."""
    with np.load(path) as f:
        parts = {k: f[f"nats_{k}"] for k in ("prior", "diffusion", "reconstruction")}
        more = f.get("nats_auxiliary")
        return bpd.Records(f["t"], f["weight"], **parts, dims=int(f["dims"]), auxiliary=more)


def pooled(found: list[bpd.Records]) -> bpd.Records:
    """The mean over runs, image by image and draw by draw."""
    fields = ("t", "weight", "prior", "diffusion", "reconstruction", "auxiliary")
    mean = {
        k: None if getattr(found[0], k) is None else np.mean([getattr(r, k) for r in found], axis=0)
        for k in fields
    }
    return bpd.Records(**mean, dims=found[0].dims)


def compared(first: dict[int, bpd.Records], other: dict[int, bpd.Records]) -> dict[str, str]:
    """A row's figures: mean over seeds, with errors over images and the spread over seeds.

    Args:
        first: records of the first row by seed.
        other: of this row.

    Returns:
        `bits/dim`, `over seeds`, `minus the first`, `of it over seeds`; the differences are of the
        seeds that both have.
    """

    def spread(values: list[float]) -> str:
        return f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""

    def shown(figure: dict[str, float]) -> str:
        return plus_minus(figure["bits_per_dim"], figure["standard_error"])

    mean = bpd.mean_se(pooled(list(other.values())).per_image()["total"])
    totals = [float(r.per_image()["total"].mean()) for r in other.values()]
    row = {"bits/dim": shown(mean), "over seeds": spread(totals)}
    both = sorted(first.keys() & other.keys())
    if first is other or not both:
        return row
    pair = [pooled([side[s] for s in both]) for side in (first, other)]
    by_seed = [bpd.paired(first[s], other[s])["difference"]["bits_per_dim"] for s in both]
    return row | {
        "minus the first": shown(bpd.paired(*pair)["difference"]),
        "of it over seeds": spread(by_seed),
    }


def chosen(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The learning rate of every variant: of those tried, the best on held-out images."""
    best: dict[str, dict[str, Any]] = {}
    for r in rows:
        if r["tried"] and r["held_out"] < best.get(r["variant"], {"held_out": np.inf})["held_out"]:
            best[r["variant"]] = r
    return {name: r["lr"] for name, r in best.items()}


def latest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without those that were written again later."""
    keys = ("table", "variant", "seed", "lr")
    return list({tuple(r[k] for k in keys): r for r in rows}.values())


# What a table shows the mean over seeds of, and with how many digits.
_MEANS = {"core_s": 0, "core_s_of_steps": 0, "images_per_s": 0, "compile_core_s": 0, "frechet": 3}


def show(rows: list[dict[str, Any]]) -> str:
    """Rows of one table in markdown; where learning rates were tried, a table of these as well."""
    best = chosen(rows)
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for r in rows:
        if r["lr"] == best.get(r["variant"], r["lr"]):
            by_name.setdefault(r["variant"], {})[r["seed"]] = r
    found = {n: {s: records(Path(r["npz"])) for s, r in by.items()} for n, by in by_name.items()}
    first, lines = next(iter(found.values()), {}), []
    for name, by_seed in by_name.items():
        some = next(iter(by_seed.values()))
        line = {"row": name, "lr": f"{some['lr']:g}", "weights": f"{some['weights']:,}"}
        line |= {"seeds": len(by_seed), "steps": some["steps"]}
        for key, digits in _MEANS.items():
            values = [r[key] for r in by_seed.values() if key in r]
            if values:
                line[key.replace("_", " ")] = f"{statistics.mean(values):.{digits}f}"
        lines.append(line | compared(first, found[name]))
    tried = [
        {"row": r["variant"], "lr": f"{r['lr']:g}", "held out": f"{r['held_out']:.4f}",
         "chosen": "yes" if r["lr"] == best[r["variant"]] else ""}
        for r in rows if r["tried"]
    ]  # fmt: skip
    return "\n\n".join(_common.table(t) for t in (lines, tried) if t)
