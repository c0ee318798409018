"""The page: one HTML file without scripts or external resources."""

import shlex
from collections.abc import Callable
from typing import Any

from diffusion_jax import saved_config
from diffusion_jax.cli.report import (
    sections_audit,
    sections_guide,
    sections_likelihood,
    sections_measured,
    sections_text,
    sections_trained,
)
from diffusion_jax.cli.report.collect import RunFiles
from diffusion_jax.cli.report.elements import Missing, Section
from diffusion_jax.cli.report.markup import Html, command, environment, join, settings, table, tag
from diffusion_jax.config_fields import flat

_Build = Callable[[RunFiles], Section | Missing | None]
_DRAWN: tuple[_Build, ...] = (
    sections_trained.samples,
    sections_trained.data,
    sections_trained.training,
    sections_measured.quality,
    sections_audit.audit,
    sections_measured.environment,
)
# For each metric of a task: the setting in the subtitle of the page, and its sections in order.
_PAGES: dict[str, tuple[str, tuple[_Build, ...]]] = {
    "bits_per_dim": (
        "network",
        (
            sections_trained.samples,
            sections_trained.reconstructions,
            sections_likelihood.likelihood,
            sections_trained.data,
            sections_trained.training,
            sections_trained.noise,
            sections_measured.quality,
            sections_measured.sweep,
            sections_measured.codec,
            sections_measured.progressive,
            sections_measured.ood,
            sections_text.information,
            sections_audit.audit,
            sections_measured.compare,
            sections_measured.edits,
            sections_measured.environment,
        ),
    ),
    "loss_by_gamma": (
        "task",
        (
            sections_guide.scores,
            sections_trained.data,
            sections_trained.training,
            sections_measured.environment,
        ),
    ),
    "agreement": ("task", (_DRAWN[0], sections_likelihood.density, *_DRAWN[1:])),
    "samples": ("task", _DRAWN),
}


def render(
    run: RunFiles,
    defaults: dict[str, Any],
    where: str,
    notes: tuple[str, ...] = (),
    made: str = "",
    stages: str = "",
) -> str:
    """Renders the report of a work directory.

    Args:
        run: the content of the work directory.
        defaults: the default configuration; differences from it are marked.
        where: the work directory, as it is written in commands.
        notes: sentences about what could not be made.
        made: when and by what the page was made.
        stages: the runs of a cascade, if the work directory is that of a whole cascade.
    """
    done: list[Section] = []
    left: list[Any] = [*notes, *(f"{p} (unreadable)" for p in run.problems)]
    what, sections = _PAGES[run.figure]
    for build in sections:
        found = _built(build, run, left)
        if isinstance(found, Section):
            done.append(found)
        elif found is not None and (found.of_stages or not stages):
            left.append(_sentence(found, where, stages))
    done.append(_configuration(run, defaults, stages))
    top = _built(sections_trained.headline, run, left)
    if left:
        done.append(Section("Not here yet", tag("ul", join(tag("li", s) for s in left))))
    data = run.config.get("data", "a cascade" if stages else "a run")
    return (
        environment()
        .get_template("page.html")
        .render(
            title=f"{run.name}: {saved_config.brief(data)}",
            what=saved_config.brief(run.config.get(what, "")),
            top=top or "",
            sections=done,
            made=made,
        )
    )


def _built(build: Callable[[RunFiles], Any], run: RunFiles, left: list[Any]) -> Any:
    """Builds a section; if a file is malformed, returns None and adds a sentence to `left`."""
    try:
        return build(run)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
        name = build.__name__.replace("_", " ")
        left.append(f"The section {name} was left out: a file is malformed ({e!r}).")
        return None


def _sentence(m: Missing, where: str, stages: str) -> Html:
    words = m.command.replace("{0}", shlex.quote(where))
    words += f" --config.stages={shlex.quote(stages)}" if stages else ""
    return join([f"{m.what}: made by ", command(words)])


def _configuration(run: RunFiles, defaults: dict[str, Any], stages: str) -> Section:
    if not run.config:
        note = f"Each stage has its own: {stages}." if stages else "There is no config.json here."
        return Section("Configuration", tag("p", note, class_="note"))
    values, usual = flat(run.config), flat(defaults)
    changed = {k: v for k, v in values.items() if k in usual and usual[k] != v}
    rows = [
        [tag("code", k), tag("strong", tag("code", repr(v))) if k in changed else
         tag("code", repr(v)), tag("code", repr(usual[k])) if k in changed else ""]
        for k, v in values.items()
    ]  # fmt: skip
    short = [(tag("code", k), tag("code", repr(v))) for k, v in changed.items()]
    parts = [
        tag("p", "Settings that differ from the defaults:"),
        settings(short),
        tag("details", tag("summary", f"All {len(rows)} settings, as resolved"),
            table(["setting", "value", "default, if different"], rows)),
        tag("details", tag("summary", "Parameters"),
            tag("pre", run.parameters, tabindex="0")) if run.parameters else None,
    ]  # fmt: skip
    return Section("Configuration", join(parts))
