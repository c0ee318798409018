"""Tables of runs measured on the same images: means over seeds, paired differences."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _common
from diffusion_jax.likelihood import bpd
from diffusion_jax.runtime.formatting import plus_minus


def totals(path: Path) -> np.ndarray:
    """The bits/dim of every image, as written by an evaluation."""
    with np.load(path) as f:
        return f["bits_per_dim_total"]


def compared(first: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> dict[str, str]:
    """Results of a row: the mean over seeds, its error over images and the spread over seeds.

    Args:
        first: bits/dim of every image of the first row, by seed.
        other: the same for this row.

    Returns:
        `bits/dim`, `over seeds`, `minus the first`, `of it over seeds`; the differences are of the
        seeds that both have.
    """

    def spread(values: list[float]) -> str:
        return f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""

    def shown(mean: dict[str, float]) -> str:
        return plus_minus(mean["bits_per_dim"], mean["standard_error"])

    def over_images(values: list[np.ndarray]) -> dict[str, float]:
        return bpd.mean_se(np.mean(values, axis=0))

    means = [float(a.mean()) for a in other.values()]
    row = {"bits/dim": shown(over_images(list(other.values()))), "over seeds": spread(means)}
    both = sorted(first.keys() & other.keys())
    if first is other or not both:
        return row
    differences = [other[s] - first[s] for s in both]
    return row | {
        "minus the first": shown(over_images(differences)),
        "of it over seeds": spread([float(d.mean()) for d in differences]),
    }


def chosen(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The learning rate of each variant that was best on held-out images."""
    best: dict[str, dict[str, Any]] = {}
    for r in rows:
        if r["tried"] and r["held_out"] < best.get(r["variant"], {"held_out": np.inf})["held_out"]:
            best[r["variant"]] = r
    return {name: r["lr"] for name, r in best.items()}


def latest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest version of each row."""
    keys = ("table", "variant", "seed", "lr")
    return list({tuple(r[k] for k in keys): r for r in rows}.values())


# Columns that are averaged over seeds, and their number of decimals.
_MEANS = {"core_s": 0, "core_s_of_steps": 0, "images_per_s": 0, "compile_core_s": 0,
          "frechet": 3, "samples_per_s": 0}  # fmt: skip


def show(rows: list[dict[str, Any]]) -> str:
    """Rows as a markdown table, with a second table of the learning rates if several were tried."""
    best = chosen(rows)
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for r in rows:
        if r["lr"] == best.get(r["variant"], r["lr"]):
            by_name.setdefault(r["variant"], {})[r["seed"]] = r
    found = {n: {s: totals(Path(r["npz"])) for s, r in by.items()} for n, by in by_name.items()}
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
