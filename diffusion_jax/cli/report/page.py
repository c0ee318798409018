"""The page: one HTML file without scripts and without anything to fetch."""

import shlex
from collections.abc import Callable
from typing import Any

from diffusion_jax.cli.report import sections_measured, sections_trained
from diffusion_jax.cli.report.collect import Run
from diffusion_jax.cli.report.elements import Missing, Section
from diffusion_jax.cli.report.markup import Html, command, join, settings, table, tag
from diffusion_jax.cli.report.style import CSS

# In the order of the page.
_SECTIONS: tuple[Callable[[Run], Section | Missing | None], ...] = (
    sections_trained.samples,
    sections_measured.likelihood,
    sections_trained.training,
    sections_trained.noise,
    sections_measured.quality,
    sections_measured.sweep,
    sections_measured.codec,
    sections_measured.progressive,
    sections_measured.ood,
    sections_measured.compare,
    sections_measured.edits,
    sections_measured.environment,
)


def render(
    run: Run, defaults: dict[str, Any], where: str, notes: tuple[str, ...] = (), made: str = ""
) -> str:
    """The report of a work directory.

    Args:
        run: what it holds.
        defaults: the default configuration: what differs is marked.
        where: the work directory, as commands name it.
        notes: sentences about what could not be made.
        made: when and by what the page was made.

    Returns:
        The HTML.
    """
    done: list[Section] = []
    left: list[Any] = [*notes, *(f"{p} (unreadable)" for p in run.problems)]
    for build in _SECTIONS:
        found = _built(build, run, left)
        if isinstance(found, Section):
            done.append(found)
        elif found is not None:
            left.append(_sentence(found, where))
    done.append(_configuration(run, defaults))
    top = _built(sections_trained.headline, run, left)
    if left:
        done.append(Section("Not here yet", tag("ul", join(tag("li", s) for s in left))))
    title = f"{run.name}: {run.config.get('data', 'a run')}"
    return "<!DOCTYPE html>\n" + tag(
        "html", _head(title), _body(run, title, top, done, made), lang="en"
    )


def _built(build: Callable[[Run], Any], run: Run, left: list[Any]) -> Any:
    """What `build` makes of the run; None, and a sentence in `left`, if a file is too strange."""
    try:
        return build(run)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
        name = build.__name__.replace("_", " ")
        left.append(f"The section {name} was left out: a file is not as expected ({e!r}).")
        return None


def _sentence(m: Missing, where: str) -> Html:
    words = m.command.replace("{0}", shlex.quote(where))
    return join([f"{m.what}: made by ", command(words)])


def _head(title: str) -> Html:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        # An icon of its own: browsers ask a server for one otherwise.
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(CSS)),
    )


def _body(run: Run, title: str, top: Html | None, done: list[Section], made: str) -> Html:
    what = run.config.get("task") if run.scorer else run.config.get("network", "")
    names = [_anchor(s.title) for s in done]
    links = [tag("li", tag("a", s.title, href=f"#{n}")) for s, n in zip(done, names, strict=True)]
    sections = [
        tag("section", tag("h2", s.title, id=f"{n}-title"), s.body, id=n,
            aria_labelledby=f"{n}-title")
        for s, n in zip(done, names, strict=True)
    ]  # fmt: skip
    return tag(
        "body",
        tag("header", tag("h1", title), tag("p", what, class_="what"), top),
        tag("nav", tag("ul", join(links)), aria_label="Sections"),
        tag("main", join(sections)),
        tag("footer", tag("p", made)) if made else None,
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for k, v in values.items():
        out |= _flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}": v}
    return out


def _configuration(run: Run, defaults: dict[str, Any]) -> Section:
    if not run.config:
        return Section("Configuration", tag("p", "There is no config.json here.", class_="note"))
    values, usual = _flat(run.config), _flat(defaults)
    changed = {k: v for k, v in values.items() if k in usual and usual[k] != v}
    rows = [
        [tag("code", k), tag("strong", tag("code", repr(v))) if k in changed else
         tag("code", repr(v)), tag("code", repr(usual[k])) if k in changed else ""]
        for k, v in values.items()
    ]  # fmt: skip
    short = [(tag("code", k), tag("code", repr(v))) for k, v in changed.items()]
    parts = [
        tag("p", "What differs from the defaults:"),
        settings(short),
        tag("details", tag("summary", f"All {len(rows)} settings, as resolved"),
            table(["setting", "value", "default, where it differs"], rows)),
        tag("details", tag("summary", "Parameters"),
            tag("pre", run.parameters, tabindex="0")) if run.parameters else None,
    ]  # fmt: skip
    return Section("Configuration", join(parts))
