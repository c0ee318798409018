"""HTML elements, by Jinja2; all text that is not `Html` is escaped."""

import base64
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup as Html, escape as text

_VOID = {"img", "link", "meta", "source"}


@functools.cache
def environment() -> jinja2.Environment:
    """The templates in the folder `templates`."""
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def _part(name: str, *args: Any) -> Html:
    return getattr(environment().get_template("parts.html").module, name)(*args)


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element.

    Args:
        name: name of the element.
        *children: markup, or anything else, which is escaped; None is skipped.
        **attributes: `class_` stands for `class`; None is skipped.
    """
    given = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items() if v is not None}
    kept = [c for c in children if c is not None]
    return _part("element", name, given, kept, name in _VOID)


def join(parts: Iterable[Any]) -> Html:
    """Concatenates markup; None is skipped."""
    return Html().join(p for p in parts if p is not None)


def data_uri(kind: str, content: bytes) -> str:
    """The content of a file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str = "") -> Html:
    """A table in a container that scrolls; the first column has the names of the rows."""
    return _part("table", head, list(rows), caption)


def region(content: Html, label: str) -> Html:
    """A container that scrolls on narrow screens."""
    return _part("region", content, label)


def pairs(values: Iterable[tuple[Any, Any]]) -> Html:
    """A description list of names and values."""
    return _part("pairs", list(values))


def settings(values: Iterable[tuple[Any, Any]]) -> Html:
    """A description list in several columns, if the screen is wide enough."""
    return tag("div", pairs(values), class_="settings")


def picture(address: str, alt: str, caption: Any = None, class_: str = "") -> Html:
    """An image with its caption."""
    return _part("picture", address, alt, caption, class_)


def command(words: str) -> Html:
    """A command to type."""
    return tag("code", words)


__all__ = ["Html", "command", "data_uri", "environment", "join", "pairs", "picture", "region",
           "settings", "table", "tag", "text"]  # fmt: skip
