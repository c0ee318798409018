"""The WordPiece tokenizer of BERT's lower-case models: words and marks, then the longest pieces."""

import unicodedata
from collections.abc import Mapping

_LONGEST = 100  # words with more characters are unknown
_MARKS = set("$+<=>^`|~")  # punctuation in BERT, though not in Unicode


def _is_mark(c: str) -> bool:
    return c in _MARKS or unicodedata.category(c).startswith("P")


def _is_alone(c: str) -> bool:
    """Whether a character is Chinese and therefore a word by itself."""
    return 0x3400 <= ord(c) <= 0x9FFF or 0xF900 <= ord(c) <= 0xFAFF or 0x20000 <= ord(c) <= 0x2FA1F


def _words(text: str) -> list[tuple[str, int]]:
    """Lower-case words without accents, and single marks, each with its position."""
    words: list[tuple[str, int]] = []
    new_word = True
    for at, char in enumerate(text):
        control = unicodedata.category(char).startswith("C") and char not in "\t\n\r"
        control |= char == "\ufffd"  # the replacement of invalid bytes
        if control or char.isspace():
            new_word = new_word or not control
            continue
        plain = unicodedata.normalize("NFD", char.lower())
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        for c in plain:
            alone = _is_mark(c) or _is_alone(c)
            if new_word or alone:
                words.append((c, at))
            else:
                words[-1] = (words[-1][0] + c, words[-1][1])
            new_word = alone
    return words


def pieces(vocabulary: Mapping[str, int], text: str, unknown: int) -> list[tuple[int, int]]:
    """Numbers of pieces, each with the position in `text` of its word."""
    out: list[tuple[int, int]] = []
    for word, at in _words(text):
        numbers, start = [], 0
        while start < len(word) and len(word) <= _LONGEST:
            ends = range(len(word), start, -1)
            names = (("##" if start else "") + word[start:end] for end in ends)
            end, name = next(
                ((e, n) for e, n in zip(ends, names, strict=True) if n in vocabulary), (0, "")
            )
            if not name:
                break
            numbers.append((vocabulary[name], at))
            start = end
        out += numbers if start == len(word) else [(unknown, at)]
    return out
