"""Texts as words and single marks, and words as a text again."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")
_SPACE = re.compile(r" (?=[-’',.;:!?)])|(?<=[-’'(]) ")  # those that no text has around marks


def cut(text: str) -> list[tuple[str, int]]:
    """Words and marks in lower case, each with the character of `text` it begins at."""
    return [(m[0].lower(), m.start()) for m in _WORD.finditer(text)]


def joined(words: Sequence[str]) -> str:
    """Words with spaces between them, none before a comma or beside a hyphen."""
    return _SPACE.sub("", " ".join(words))
