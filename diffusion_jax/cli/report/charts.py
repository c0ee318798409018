"""Charts: as SVG that follows the page's light or dark scheme, and as PNG files.

In SVG, text and lines are first drawn in placeholder colours, which are then replaced by CSS
variables. The same numbers give the same bytes.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.runtime.storage import write_picture

_INK, _GRID = "#010203", "#040506"
_PAPER_GRID = "#d9dce1"  # in PNG files, on white
_LONGEST = 48  # maximum number of characters in a label
COLOURS = ("#3f84d9", "#d97a1a", "#2f9e73", "#c2497a", "#8c6bd1", "#8a8f98")
_STYLE = (
    "<style>:root{--ink:#30343b;--grid:#d9dce1}"
    "@media (prefers-color-scheme:dark){:root{--ink:#c9ced6;--grid:#3b414b}}</style>"
)
_DPI = 120
_SIZE = (4.2, 2.75)  # inches; legible on a phone, where it is shown at 80%


class Chart:
    """One set of axes.

    Args:
        x: label of the x axis.
        y: label of the y axis.
        size: width and height in inches.
    """

    def __init__(self, x: str, y: str, size: tuple[float, float] = _SIZE):
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=size, layout="constrained")
        self.axes = self._figure.subplots()
        self.axes.set(xlabel=_plain_text(x), ylabel=_plain_text(y))
        self._drawn = 0

    def colour(self) -> str:
        """The colour of the next line."""
        self._drawn += 1
        return COLOURS[(self._drawn - 1) % len(COLOURS)]

    def line(
        self, x: Sequence, y: Sequence, label: str = "", style: str = "-", error: Any = None
    ) -> None:
        """Draws a line, with a band of one standard error on either side if `error` is given."""
        x, y, colour = np.asarray(x, float), np.asarray(y, float), self.colour()
        self.axes.plot(
            x, y, style, color=colour, label=_plain_text(label) or None, markersize=4, linewidth=1.6
        )
        if error is not None:
            e = np.asarray(error, float)
            self.axes.fill_between(x, y - e, y + e, color=colour, alpha=0.22, linewidth=0)

    def points(self, x: Sequence, y: Sequence, error: Any = None, label: str = "") -> None:
        """Draws points with error bars."""
        self.axes.errorbar(
            x, y, yerr=error, fmt="o", color=self.colour(), capsize=3, markersize=5,
            label=_plain_text(label) or None,
        )  # fmt: skip

    def spans(self, names: Sequence[str], values: Sequence[float], errors: Sequence[float],
              texts: Sequence[str]) -> None:  # fmt: skip
        """Draws values with error bars in rows from the top, each with a text above it."""
        at = np.arange(len(names))[::-1]
        for y, value, error, shown in zip(at, values, errors, texts, strict=True):
            self.axes.errorbar(
                [value], [y], xerr=[error], fmt="o", color=self.colour(), capsize=4, markersize=6
            )
            self.axes.annotate(
                shown, (value, y), xytext=(0, 7), textcoords="offset points", ha="center",
                color=_INK, fontsize=9,
            )  # fmt: skip
        self.axes.set_yticks(at, [_plain_text(n) for n in names])
        self.axes.set_ylim(-0.5, len(names) - 0.25)
        self.axes.set_xscale("log")
        self.axes.margins(x=0.3)

    def bars(self, names: Sequence[str], values: Sequence[float], texts: Sequence[str]) -> None:
        """Draws horizontal bars from the top, each with a text at its end."""
        at = np.arange(len(names))[::-1]
        colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
        self.axes.barh(at, values, color=colours, height=0.62)
        for y, value, shown in zip(at, values, texts, strict=True):
            self.axes.annotate(
                shown, (value, y), xytext=(4, 0), textcoords="offset points", va="center",
                color=_INK, fontsize=9,
            )  # fmt: skip
        self.axes.set_yticks(at, [_plain_text(n) for n in names])
        self.axes.margins(x=0.28)

    def histogram(self, values: np.ndarray, edges: np.ndarray, label: str) -> None:
        """Draws the density of values."""
        self.axes.hist(
            values, edges, density=True, alpha=0.5, color=self.colour(), label=_plain_text(label)
        )

    def svg(self) -> bytes:
        """The chart as SVG, for a page."""
        import matplotlib

        self._dress(_GRID)
        settings = {"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}
        out = io.BytesIO()
        with matplotlib.rc_context(settings):
            self._figure.savefig(
                out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        return _themed(out.getvalue().decode()).encode()

    def pixels(self) -> np.ndarray:
        """The chart on white, uint8 `[H, W, 3]`."""
        from PIL import Image

        self._dress(_PAPER_GRID)
        out = io.BytesIO()
        self._figure.savefig(out, format="png", dpi=_DPI)
        return np.asarray(Image.open(out).convert("RGB"))

    def _dress(self, grid: str) -> None:
        axes = self.axes
        axes.grid(color=grid, linewidth=0.7)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                _plain(axis)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", colors=_INK, labelsize=9)
        for part in (axes.xaxis.label, axes.yaxis.label):
            part.set_color(_INK)
        for spine in axes.spines.values():
            spine.set_color(grid)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(frameon=False, labelcolor=_INK, fontsize=9)


def save(path: Path, *charts: Chart) -> None:
    """Writes charts of equal height side by side to a PNG."""
    from PIL import Image

    row = np.concatenate([chart.pixels() for chart in charts], axis=1)
    write_picture(path, Image.fromarray(row))


def _plain_text(label: str) -> str:
    """A label from a file, shortened, with dollar signs (which begin formulas) escaped."""
    label = label if len(label) <= _LONGEST else label[: _LONGEST - 3] + "..."
    return label.replace("$", "\\$")


def _plain(axis: Any) -> None:
    """Labels a logarithmic axis with plain numbers; a short one also between powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    low, high = sorted(axis.get_view_interval())
    every = FuncFormatter(lambda v, _: f"{v:.3g}")
    axis.set_major_formatter(every)
    axis.set_minor_formatter(every if low > 0 and high / low < 10.0 else NullFormatter())


def _themed(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(_INK, "var(--ink)").replace(_GRID, "var(--grid)")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    head, rest = svg.split(">", 1)
    return f"{head}>{_STYLE}{rest}"


def from_below(chart: Chart, values: Sequence[float], times: float = 2.5) -> None:
    """Limits the y axis, so that large initial values do not flatten a falling curve.

    Args:
        chart: the chart.
        values: values of the curve.
        times: upper limit of the axis, as a multiple of the last value.
    """
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    if len(finite) and finite[-1] > 0 and finite.max() > times * finite[-1]:
        chart.axes.set_ylim(0.9 * finite.min(), times * finite[-1])
