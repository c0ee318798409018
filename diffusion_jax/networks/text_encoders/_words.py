"""Splits texts into words and single marks, and joins them again."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")
_SPACE = re.compile(r" (?=[-’',.;:!?)])|(?<=[-’'(]) ")  # unwanted spaces around marks


def cut(text: str) -> list[tuple[str, int]]:
    """Words and marks in lower case, each with its position in `text`."""
    return [(m[0].lower(), m.start()) for m in _WORD.finditer(text)]


def joined(words: Sequence[str]) -> str:
    """Words joined by spaces, without spaces before commas or next to hyphens."""
    return _SPACE.sub("", " ".join(words))
