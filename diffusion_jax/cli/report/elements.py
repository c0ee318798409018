"""Elements of the sections of a report, and the format of numbers."""

import math
from dataclasses import dataclass
from typing import Any

from diffusion_jax.cli.report.charts import Chart
from diffusion_jax.cli.report.markup import Html, data_uri, join, picture, region, tag, text


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: heading of the section.
        body: its content.
    """

    title: str
    body: Html

    @property
    def anchor(self) -> str:
        """Its anchor on the page."""
        return self.title.lower().replace(" ", "-")


@dataclass(frozen=True)
class Missing:
    """A section for which the work directory has no files.

    Attributes:
        what: the section, as the subject of a sentence.
        command: the command that makes it, with `{0}` for the work directory.
        of_stages: whether the command also works for the stages of a cascade together.
    """

    what: str
    command: str
    of_stages: bool = False


def djax(mode: str, *more: str) -> str:
    """The command that runs a mode on the work directory, for `Missing`."""
    return " ".join([f"djax {mode} --workdir={{0}}", *more])


def svg(chart: Chart | None, alt: str, caption: Any) -> Html | None:
    """A chart as a figure; None for None."""
    if chart is None:
        return None
    return picture(data_uri("image/svg+xml", chart.svg()), alt, caption, "chart")


def image(name: str, content: bytes, alt: str, caption: Any = None) -> Html:
    """A picture file as a figure; its pixels stay sharp when enlarged."""
    ending = name.rpartition(".")[2]
    kind = f"image/{ending if ending in ('webp', 'gif') else 'png'}"
    return picture(data_uri(kind, content), alt, caption, "pixels")


def png_width(content: bytes) -> int:
    """Width of a PNG in pixels, from its header; 0 for anything else."""
    return int.from_bytes(content[16:20], "big") if content[:4] == b"\x89PNG" else 0


def plot(content: bytes, alt: str, caption: Any = None) -> Html:
    """A wide PNG plot drawn by a mode, in a container that scrolls on narrow screens."""
    return region(picture(data_uri("image/png", content), alt, caption, "plot"), alt)


def columns(*parts: Html | None) -> Html | None:
    """Parts side by side if the screen is wide enough; None if there are none."""
    kept = [p for p in parts if p is not None]
    return tag("div", join(kept), class_="columns") if kept else None


def number(value: Any, digits: int = 4) -> Html:
    """A number with `digits` decimals, or a dash for None."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return text("-" if value is None else value)
    if not math.isfinite(value):
        return text("unknown" if math.isnan(value) else "infinite")
    if isinstance(value, int):
        return text(f"{value:,}")
    if value and abs(value) < 0.5 * 10.0**-digits:
        return text(f"{value:.1e}")
    return text(f"{value:,.{digits}f}")


def plus_minus(value: Any, error: Any, digits: int = 4) -> Html:
    """A number and its standard error, unless that is None or NaN."""
    shown = number(value, digits)
    if not isinstance(error, int | float) or math.isnan(error):
        return shown
    return Html(f"{shown} &plusmn; {number(float(error), digits)}")


def bits(found: dict[str, Any]) -> Html:
    """The `bits_per_dim` of a report, with its `standard_error`."""
    return plus_minus(found.get("bits_per_dim"), found.get("standard_error"))


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
