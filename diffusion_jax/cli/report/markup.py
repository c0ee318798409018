"""HTML that cannot be forgotten to be escaped: text is escaped unless it is `Html`."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

_VOID = {"img", "link", "meta", "source"}


class Html(str):
    """Markup: put into other markup as it is."""


def text(value: Any) -> Html:
    """Any value as text."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element.

    Args:
        name: of the element.
        *children: markup, or anything else, which is escaped; None is left out.
        **attributes: `class_` stands for `class`; None is left out, True has no value.

    Returns:
        The markup.
    """
    given = "".join(
        f" {k.rstrip('_').replace('_', '-')}" + ("" if v is True else f'="{text(v)}"')
        for k, v in attributes.items()
        if v is not None
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    inner = "".join(text(c) for c in children if c is not None)
    return Html(f"<{name}{given}>{inner}</{name}>")


def join(parts: Iterable[Any]) -> Html:
    """Markup one after another; None is left out."""
    return Html("".join(text(p) for p in parts if p is not None))


def data_uri(kind: str, content: bytes) -> str:
    """A file as an address of itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str = "") -> Html:
    """A table in a container that scrolls; the first column names the rows.

    Args:
        head: names of the columns.
        rows: cells.
        caption: what it shows.

    Returns:
        The markup.
    """
    body = [
        tag("tr", tag("th", row[0], scope="row"), join(tag("td", c) for c in row[1:]))
        for row in rows
    ]
    grid = tag(
        "table",
        tag("caption", caption) if caption else None,
        tag("thead", tag("tr", join(tag("th", h, scope="col") for h in head))),
        tag("tbody", join(body)),
    )
    return tag("div", grid, class_="scroll", tabindex="0", role="region",
               aria_label=caption or " / ".join(map(str, head)))  # fmt: skip


def pairs(values: Iterable[tuple[Any, Any]]) -> Html:
    """Names and their values, as a description list."""
    return tag("dl", join(tag("div", tag("dt", k), tag("dd", v)) for k, v in values))


def settings(values: Iterable[tuple[Any, Any]]) -> Html:
    """Many names and values, in several columns where there is room."""
    return tag("div", pairs(values), class_="settings")


def picture(address: str, alt: str, caption: Any = None, class_: str = "") -> Html:
    """An image with its caption."""
    image = tag("img", src=address, alt=alt, class_=class_ or None)
    return tag("figure", image, tag("figcaption", caption) if caption else None)


def command(words: str) -> Html:
    """A command to type."""
    return tag("code", words)
