"""The section about a guidance network on the test set."""

from typing import Any

from diffusion_jax.cli.report import figures
from diffusion_jax.cli.report.collect import RunFiles, first_of_newest, of_test
from diffusion_jax.cli.report.elements import Missing, Section, columns, djax, number, svg
from diffusion_jax.cli.report.markup import join, table
from diffusion_jax.cli.report.sections_trained import others


def _levels(data: dict[str, Any]) -> list[dict[str, float]]:
    """A row for each noise level; older reports stored columns instead."""
    if "by_gamma" in data:
        return data["by_gamma"]
    found = {"loss" if k == "mean" else k: v for k, v in data["loss_by_gamma"].items()}
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def scores(run: RunFiles) -> Section | Missing:
    """The metrics of a guidance network at each noise level."""
    e = first_of_newest(run.evals)
    if e is None:
        return Missing("Results on the test set", djax("eval"))
    rows = _levels(e.data)
    names = [k for k in rows[0] if k != "gamma"]
    drawn = columns(
        *(
            svg(figures.guide_levels(rows, n), f"Line chart of {n} against gamma",
                f"{n.capitalize()} on {e.data['data']['name']} at each noise level.")
            for n in names
        )
    )  # fmt: skip
    cells = [[number(r["gamma"], 2), *(number(r[n], 3) for n in names)] for r in rows]
    cells.append(["mean", *(number(e.data["mean"][n], 3) for n in names)])
    title = "On the test set" if of_test(e) else f"On {e.data['data']['name']}"
    return Section(title, join([drawn, table(["gamma", *names], cells), others(run.evals, e)]))
