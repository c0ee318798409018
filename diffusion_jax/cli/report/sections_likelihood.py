"""Sections about bounds and densities, and whether they are valid."""

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
        return Missing("Results on the test set", djax("eval"), of_stages=True)
    newest, parts = newest_bound(run), []
    if newest is not None:
        r = newest.data["result"]
        values = ", ".join(f"{k} {v['bits_per_dim']:.4f}" for k, v in r["breakdown"].items())
        rows = [("total", bits(r)), *((k, bits(v)) for k, v in r["breakdown"].items())]
        rows += _shares(newest)
        rows += _excess(r.get("known"))
        rows += [
            (f"bound with T = {k}", bits(v))
            for k, v in r.get("bound_by_timesteps", {}).items()
            if k != "infinity"
        ]
        charts = columns(
            svg(figures.breakdown(r), f"Chart of the parts of the bound: {values}",
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
    parts += [line for e in run.evals if (line := _certified(e)) is not None]
    return Section("Likelihood", join(parts))


def _shares(e: Record) -> list[tuple[str, Html]]:
    """The bits of a latent and of the image given it, or of each stage of a cascade."""
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
    """The bits of an example, compared with the known entropy of the data."""
    if known is None:
        return []
    return [
        ("bits per example", bits(known["bits"])),
        ("known entropy", number(known["entropy_bits"])),
        ("excess bits", plus_minus(known["excess_bits"], known["bits"]["standard_error"])),
    ]


def density(run: RunFiles) -> Section | None:
    """The density of a flow map, if it has been measured."""
    found = likelihood(run) if run.evals else None
    return found if isinstance(found, Section) else None


def _certified(e: Record) -> Html | None:
    """Whether a map is a bijection, and the evidence."""
    certificate = e.data.get("certificate")
    if not certificate:
        return None
    verdict = "a bijection"
    if not certificate["holds"]:
        verdict = "NOT a bijection (so the value is not a likelihood)"
    return tag(
        "p",
        f"{e.name}: {verdict} at these examples. Inversion error: median "
        f"{number(certificate['way_back_misses_by_median'], 2)}, maximum "
        f"{number(certificate['way_back_misses_by_at_most'], 2)} grey levels (limit 0.5); negative "
        f"determinants: {certificate['negative_determinants']}; condition number at most "
        f"{number(certificate['condition_at_most'], 1)}.",
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
