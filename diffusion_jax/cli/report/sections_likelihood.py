"""Sections about bounds and densities: what an example costs, and whether that can be trusted."""

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
from diffusion_jax.cli.report.markup import Html, join, settings, table, tag
from diffusion_jax.cli.report.sections_trained import newest_bound, of_part


def likelihood(run: RunFiles) -> Section | Missing:
    """Every evaluation in the work directory."""
    if not run.evals:
        return Missing("Figures on the test set", djax("eval"), of_stages=True)
    newest, parts = newest_bound(run), []
    if newest is not None:
        r = newest.data["result"]
        said = ", ".join(f"{k} {v['bits_per_dim']:.4f}" for k, v in r["breakdown"].items())
        rows = [("total", bits(r)), *((k, bits(v)) for k, v in r["breakdown"].items())]
        rows += _shares(newest)
        rows += _excess(r.get("known"))
        rows += [
            (f"bound with T = {k}", bits(v))
            for k, v in r.get("bound_by_timesteps", {}).items()
            if k != "infinity"
        ]
        charts = columns(
            svg(figures.breakdown(r), f"Chart of the parts of the bound: {said}",
                "Parts of the bound, with one standard error over examples; logarithmic."),
            svg(figures.timesteps(r), "Chart of the bound against the number of steps T",
                "The bound of models with T steps."),
        )  # fmt: skip
        unit = f"{newest.name}, bits/dim{of_part(newest)}:"
        parts += [tag("p", unit), settings(rows), charts]
    parts.append(table(
        ["estimate", "bits/dim", "Monte-Carlo s.e.", "draws", "examples", "data", "weights",
         "file"], [_estimate(e) for e in run.evals], "All evaluations",
    ))  # fmt: skip
    parts += [said for e in run.evals if (said := _certified(e)) is not None]
    return Section("Likelihood", join(parts))


def _shares(e: Record) -> list[tuple[str, Html]]:
    """What a latent takes and the image given it, or what each stage of a cascade takes."""
    r = e.data["result"]
    latent = r.get("latent", {})
    what = e.data.get("data", {}).get("medium", "image")
    names = {"in_z_0": "in the latent z_0", "of_x_given_z_0": f"of the {what} given z_0"}
    rows = [(names[k], bits(latent[k])) for k in names if k in latent]
    part = r.get("part")
    if part:
        rows.append((f"per value of {part['of']}", bits(part["per_own_value"])))
    runs = e.data.get("model", {}).get("stages", [])
    for run, stage in zip(runs, r.get("stages", []), strict=False):
        rows.append((f"stage {run.get('view', '')}", bits(stage)))
    return rows


def _excess(known: dict[str, Any] | None) -> list[tuple[str, Html]]:
    """The bits of an example beside the entropy that the data are known to have."""
    if known is None:
        return []
    return [
        ("bits of one example", bits(known["bits"])),
        ("entropy of the data, known", number(known["entropy_bits"])),
        ("bits too many", plus_minus(known["excess_bits"], known["bits"]["standard_error"])),
    ]


def density(run: RunFiles) -> Section | None:
    """The density of a flow map, if it has been measured."""
    found = likelihood(run) if run.evals else None
    return found if isinstance(found, Section) else None


def _certified(e: Record) -> Html | None:
    """Whether a map is a bijection, and how one can tell."""
    found = e.data.get("certificate")
    if not found:
        return None
    said = "a bijection" if found["holds"] else "NO bijection, and its figure no likelihood"
    return tag(
        "p",
        f"{e.name}: {said} at these examples. The way back misses by "
        f"{number(found['way_back_misses_by_median'], 2)} grey levels (median), "
        f"{number(found['way_back_misses_by_at_most'], 2)} at most (0.5 allowed); negative "
        f"determinants: {found['negative_determinants']}; condition at most "
        f"{number(found['condition_at_most'], 1)}.",
    )


def _estimate(e: Record) -> list[Any]:
    r, how = e.data["result"], e.data.get("estimator", {})
    kind = how.get("kind", "")
    if how.get("bound") is False:
        kind += " (NO BOUND)"
    if not e.data.get("certificate", {}).get("holds", True):
        kind += " (NO LIKELIHOOD)"
    kind += f",{of}" if (of := of_part(e)) else ""
    draws, weights = r.get("draws_per_image"), e.data.get("model", {}).get("weights", "")
    return [kind, bits(r), number(r.get("monte_carlo_se")), number(draws), number(r.get("images")),
            e.data.get("data", {}).get("name", ""), weights, e.name]  # fmt: skip
