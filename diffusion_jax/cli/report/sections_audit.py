"""The section about `--mode=audit`: memorisation, and differences between classes."""

from typing import Any

from diffusion_jax.cli.report import figures
from diffusion_jax.cli.report.collect import Record, RunFiles
from diffusion_jax.cli.report.elements import (
    Missing,
    Section,
    bits,
    columns,
    djax,
    number,
    plus_minus,
    svg,
)
from diffusion_jax.cli.report.markup import Html, join, table, tag
from diffusion_jax.evaluation.audit_verdict import verdict
from diffusion_jax.runtime.formatting import examples


def audit(run: RunFiles) -> Section | Missing:
    """Every audit in the work directory."""
    if not run.audit:
        return Missing("Memorisation", djax("audit"))
    return Section("Memorisation", join(_one(a) for a in run.audit))


def _one(a: Record) -> Html:
    r = a.data["result"]
    data, other = a.data["data"], a.data["held_out"]
    draws = ""
    if "gap" in r:
        draws = f", {a.data['draws_per_image']} noise draws per {examples(data)[:-1]}"
    summary = (
        f"{a.name}: {number(data['images'])} {examples(data)} of {data['name']} against "
        f"{number(other['images'])} of {other['name']}{draws}: {verdict(r)}."
    )
    rows = [row for key, make in _ROWS.items() if r.get(key) for row in make(r[key])]
    gap = r.get("gap")
    drawn = gap and svg(
        figures.gaps(gap["bands"]), "Chart of the gap between held-out and training examples "
        "against gamma", "Held out minus train, bits/dim in each band of noise levels.",
    )  # fmt: skip
    remarks = [*a.data["notes"], *(f"left out: {line}" for line in a.data["left_out"])]
    parts = [
        tag("p", summary),
        columns(table(["metric", "value", "by chance"], rows), drawn or None),
        tag("ul", join(tag("li", line) for line in remarks)) if remarks else None,
        _classes(r.get("bits_of_classes"), r.get("shares_of_classes")),
    ]
    return tag("article", *[p for p in parts if p is not None])


def _gap(g: dict[str, Any]) -> list[list[Any]]:
    return [
        ["train, bits/dim", bits(g["train"]), ""],
        ["held out, bits/dim", bits(g["held_out"]), ""],
        ["gap, bits/dim", bits(g), "0"],
    ]


def _membership(m: dict[str, Any]) -> list[list[Any]]:
    best, (low, high) = m["best_band"], m["interval"]
    rate = m["false_positive_rate"]
    return [
        ["membership AUROC", *_auroc(m)],
        [f"the same, gamma {best['from']:.1f} .. {best['to']:.1f}", *_auroc(best)],
        [f"members detected at {rate:.0%} false positives",
         f"{m['true_positive_rate']:.3f} [{low:.3f}, {high:.3f}]", number(rate)],
    ]  # fmt: skip


def _auroc(f: dict[str, float]) -> list[Any]:
    return [plus_minus(f["auroc"], f["standard_error"], 3),
            plus_minus(0.5, f["null_standard_error"], 3)]  # fmt: skip


def _copies(c: dict[str, Any]) -> list[list[Any]]:
    n, m = c["rows"]["samples"], c["rows"]["held_out"]
    return [
        ["copies", f"{c['copies']} of {n}", f"{c['held_out_copies']} of {m} held out"],
        ["nearest/second nearest below 1/3", f"{c['singled_out']} of {n}",
         f"{c['held_out_singled_out']} of {m} held out"],
        ["closer than 99% of held-out images", number(c["suspicious"], 3), "0.01"],
        ["median distance to train, relative to held-out images", number(c["ratio"], 3), "1"],
    ]  # fmt: skip


def _worst(b: dict[str, Any]) -> list[list[Any]]:
    w = b["worst"]
    excess = plus_minus(w["over_the_rest"], w["its_standard_error"], 3)
    return [[f"worst class ({w['class']}), bits/dim over the rest", excess,
             f"{w['null']['mean']:.3f}, 95% below {w['null']['quantile_95']:.3f}"]]  # fmt: skip


def _least(s: dict[str, Any]) -> list[list[Any]]:
    least = s["least"]
    low, high = least["interval"]
    return [[f"least frequent class ({least['class']}), share of samples",
             f"{least['share']:.3f} [{low:.3f}, {high:.3f}]", number(least["of_data"], 3)],
            *_ratio(least), ["chi-square p of all shares", number(s["chi2_p"], 2), ""]]  # fmt: skip


def _ratio(least: dict[str, Any]) -> list[list[Any]]:
    """The ratio of shares; empty for audits written by earlier versions."""
    if "ratio" not in least:
        return []
    null = least["null"]
    return [["the same, relative to the judge's share in the data", number(least["ratio"], 2),
             f"{null['mean']:.2f}, 95% above {null['quantile_5']:.2f}"]]  # fmt: skip


def _agreement(a: dict[str, Any]) -> list[list[Any]]:
    return [["cosine of both runs' samples from the same noise", number(a["cosine"], 3),
             number(a["cosine_of_others"], 3)]]  # fmt: skip


_ROWS = {
    "gap": _gap, "membership": _membership, "copies": _copies, "bits_of_classes": _worst,
    "shares_of_classes": _least, "agreement": _agreement,
}  # fmt: skip


def _classes(cost: dict[str, Any] | None, shares: dict[str, Any] | None) -> Html | None:
    if not (cost or shares):
        return None
    by_number: dict[int, list[Any]] = {}
    for row in (cost or {}).get("classes", []):
        by_number[row["class"]] = [bits(row), number(row["holm_p"], 2), "", ""]
    for row in (shares or {}).get("classes", []):
        low, high = row["interval"]
        own = by_number.setdefault(row["class"], ["", "", "", ""])
        own[2] = f"{row['share']:.3f} [{low:.3f}, {high:.3f}]"
        own[3] = plus_minus(row.get("corrected"), row.get("corrected_standard_error"), 3)
    head = ["class", "bits/dim", "Holm p", "share of samples", "corrected for the judge"]
    grid = table(head, [[number(k), *v] for k, v in sorted(by_number.items())])
    return tag("details", tag("summary", "All classes"), grid)
