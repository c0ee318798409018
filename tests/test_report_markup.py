"""Pieces of the report: markup that escapes, charts in the colours of the page."""

import pytest
from html_page import HOSTILE, Checked

from diffusion_jax.cli.report import figures, markup


def test_charts_follow_the_scheme_of_the_page():
    svg = figures.schedule({"t": [0, 1], "gamma": [-3, 2], "line": [-3, 2]}).svg()
    assert b"prefers-color-scheme" in svg and b"var(--ink)" in svg
    assert b"#010203" not in svg and b"#040506" not in svg


def test_markup_escapes_all_but_markup():
    inner = markup.tag("b", "<&>", markup.Html("<i></i>"))
    assert inner == "<b>&lt;&amp;&gt;<i></i></b>"
    assert markup.tag("img", src='"><script>', alt=None) == '<img src="&#34;&gt;&lt;script&gt;">'


def test_templates_escape_in_text_and_in_attributes():
    """Whatever part of a page a hostile text is given to, it stays a text."""
    known = set()
    for shown in (
        markup.table([HOSTILE, "b"], [[HOSTILE, 1], [HOSTILE, HOSTILE]]),
        markup.table(["a", "b"], [[1, 2]], HOSTILE),
        markup.picture("data:,", HOSTILE, HOSTILE, HOSTILE),
        markup.settings([(HOSTILE, HOSTILE)]),
        markup.region(markup.command(HOSTILE), HOSTILE),
        markup.join([HOSTILE, markup.tag("p", HOSTILE, title=HOSTILE)]),
    ):
        found = Checked(str(shown))
        known |= {t for t, _ in found.tags}
        assert HOSTILE in (*found.words, *(v for _, a in found.tags for v in a.values()))
    assert known <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "img",
                     "figcaption", "dl", "dt", "dd", "code", "p"}  # fmt: skip
    with pytest.raises(ValueError, match="Invalid character"):
        markup.tag("p", **{"a onload": "x"})
