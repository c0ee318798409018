"""WordPiece as BERT's lower-case models use it: words and punctuation, then the longest pieces."""

import unicodedata
from collections.abc import Mapping

_LONGEST = 100  # characters of a word that is cut into pieces
_MARKS = set("$+<=>^`|~")  # punctuation to BERT, though not to Unicode


def _is_mark(c: str) -> bool:
    return c in _MARKS or unicodedata.category(c).startswith("P")


def _is_alone(c: str) -> bool:
    """Chinese characters are words of their own."""
    return 0x3400 <= ord(c) <= 0x9FFF or 0xF900 <= ord(c) <= 0xFAFF or 0x20000 <= ord(c) <= 0x2FA1F


def _words(text: str) -> list[tuple[str, int]]:
    """Lower-case words without accents and single marks, each with where it begins."""
    found: list[tuple[str, int]] = []
    fresh = True
    for at, char in enumerate(text):
        control = unicodedata.category(char).startswith("C") and char not in "\t\n\r"
        control |= char == "\ufffd"  # of bytes that were no text
        if control or char.isspace():
            fresh = fresh or not control
            continue
        plain = unicodedata.normalize("NFD", char.lower())
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        for c in plain:
            alone = _is_mark(c) or _is_alone(c)
            if fresh or alone:
                found.append((c, at))
            else:
                found[-1] = (found[-1][0] + c, found[-1][1])
            fresh = alone
    return found


def pieces(vocabulary: Mapping[str, int], text: str, unknown: int) -> list[tuple[int, int]]:
    """Numbers of pieces, each with the character of `text` at which its word begins."""
    out: list[tuple[int, int]] = []
    for word, at in _words(text):
        found, start = [], 0
        while start < len(word) and len(word) <= _LONGEST:
            ends = range(len(word), start, -1)
            names = (("##" if start else "") + word[start:end] for end in ends)
            end, name = next(
                ((e, n) for e, n in zip(ends, names, strict=True) if n in vocabulary), (0, "")
            )
            if not name:
                break
            found.append((vocabulary[name], at))
            start = end
        out += found if start == len(word) else [(unknown, at)]
    return out
