"""CLIP's byte-pair tokenizer (Radford et al. 2021; `simple_tokenizer.py` of the published code).

Lower-case words become bytes, and pairs of bytes are merged in the order of their ranks. Unlike the
published cleaning of texts (by ftfy), this repairs neither broken encodings nor terminal escapes;
HTML entities are replaced twice, not until none is left.
"""

import html
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"
_LAST = "</w>"  # marks the last piece of a word
_ENTITY = re.compile(r"&[^\s<&;]{1,32};?")
_SHORT = re.compile(r"'(?:s|t|re|ve|m|ll|d)")
_CLOSE = re.compile(r" (?=[,.;:!?)])")

_LIGATURES = (0x132, 0x133, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4), *range(0xFB00, 0xFB07))


def _replaced() -> dict[str, str]:
    """Replaces characters as ftfy does: straight quotes, normal-width letters, no ligatures."""
    out = {c: unicodedata.normalize("NFKC", c) for c in map(chr, (*range(0xFF01, 0xFFF0), 0x3000))}
    for c in map(chr, _LIGATURES):
        out[c] = "".join(chr(int(k, 16)) for k in unicodedata.decomposition(c).split()[1:])
    out |= dict.fromkeys(map(chr, (0x2BC, *range(0x2018, 0x201C))), "'")
    out |= dict.fromkeys(map(chr, range(0x201C, 0x2020)), '"')
    controls = (*range(9), 0xB, *range(0xE, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF,
                *range(0xFFF9, 0xFFFD))  # fmt: skip
    return out | dict.fromkeys(map(chr, controls), "") | {"\u0149": "'n"}


_REPLACED = _replaced()


def _symbols() -> list[str]:
    """A visible character for each byte."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in visible else next(others)) for b in range(256)]


_SYMBOLS = _symbols()


@dataclass(frozen=True)
class Pairs:
    """A vocabulary of byte pairs.

    Attributes:
        numbers: numbers of the pieces, including start and end.
        ranks: ranks of the pairs; the lowest is merged first.
    """

    numbers: dict[str, int]
    ranks: dict[tuple[str, str], int]

    def __post_init__(self) -> None:
        needed = [START, END, *_SYMBOLS, *(s + _LAST for s in _SYMBOLS), *map("".join, self.ranks)]
        missing = [piece for piece in needed if piece not in self.numbers]
        if missing:
            raise ValueError(f"the vocabulary has no {missing[0]!r}")

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """Numbers of pieces, each with the position in `text` of its first character."""
        clean, at = _clean(text)
        out: list[tuple[int, int]] = []
        for start, end in _words(clean):
            characters = [k for k in range(start, end) for _ in _utf8(clean[k])]  # of each byte
            done = 0
            for piece in self._merged(_utf8(clean[start:end])):
                out.append((self.numbers[piece], at[characters[done]]))
                done += len(piece)
        return out

    def _merged(self, word: bytes) -> list[str]:
        parts = [_SYMBOLS[b] for b in word]
        parts[-1] += _LAST
        while len(parts) > 1:
            ranks = [self.ranks.get(pair, math.inf) for pair in pairwise(parts)]
            k = ranks.index(min(ranks))
            if ranks[k] == math.inf:
                break
            parts[k : k + 2] = ["".join(parts[k : k + 2])]
        return parts

    def text(self, numbers: Sequence[int]) -> str:
        """The text of pieces, in lower case."""
        names = {n: name for name, n in self.numbers.items()}
        byte = {s: b for b, s in enumerate(_SYMBOLS)}
        joined = "".join(names[n] for n in numbers).replace(_LAST, " ")
        words = bytes(b for c in joined for b in ([byte[c]] if c in byte else c.encode()))
        return _CLOSE.sub("", words.decode(errors="replace").strip())


def _clean(text: str) -> tuple[str, list[int]]:
    """The cleaned, NFC, lower-case text without entities, and each character's old position."""
    text, at = _plain(text, list(range(len(text))))
    if not unicodedata.is_normalized("NFC", text):
        parts = [(unicodedata.normalize("NFC", text[i:j]), at[i]) for i, j in _composed(text)]
        text, at = "".join(p for p, _ in parts), [i for p, i in parts for _ in p]
    for _ in range(2):  # as published, for texts that were escaped twice
        spans = [m.span() for m in _ENTITY.finditer(text)]
        for i, j in reversed(spans):
            plain = html.unescape(text[i:j])
            if plain != text[i:j]:
                text, at[i:j] = text[:i] + plain + text[j:], [at[i]] * len(plain)
    text, at = _plain(text, at)
    at = [k for k, c in zip(at, text, strict=True) for _ in c.lower()]
    return text.lower(), at


def _plain(text: str, at: list[int]) -> tuple[str, list[int]]:
    parts = [_REPLACED.get(c, c) for c in text]
    return "".join(parts), [k for k, part in zip(at, parts, strict=True) for _ in part]


def _composed(text: str) -> Iterator[tuple[int, int]]:
    """Splits a text into parts that can be composed (NFC) independently.

    Yields:
        Start and end of each part.
    """
    start = 0
    nfc = unicodedata.normalize
    for i in range(1, len(text) + 1):
        independent = i == len(text) or (
            not unicodedata.combining(text[i])
            and nfc("NFC", text[start : i + 1]) == nfc("NFC", text[start:i]) + nfc("NFC", text[i])
        )
        if independent:
            yield start, i
            start = i


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")


def _kind(c: str) -> str:
    if c.isspace():
        return " "
    kind = unicodedata.category(c)[0]
    return kind if kind in "LN" else "."


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Splits a text into runs of letters, single digits, runs of marks, and endings such as 's.

    Yields:
        Start and end of each part, without spaces.
    """
    start = 0
    while start < len(text):
        kind, short = _kind(text[start]), _SHORT.match(text, start)
        end = short.end() if short else start + 1
        while not short and kind != "N" and end < len(text) and _kind(text[end]) == kind:
            end += 1
        if kind != " ":
            yield start, end
        start = end


def read(folder: Path) -> Pairs:
    """The vocabulary in a folder: `vocab.json` and `merges.txt`, or `tokenizer.json`.

    Raises:
        OSError: the files are missing.
        ValueError: they are not such a vocabulary.
    """
    if (folder / "vocab.json").exists() or not (folder / "tokenizer.json").exists():
        numbers = json.loads((folder / "vocab.json").read_text("utf-8"))
        lines = (folder / "merges.txt").read_text("utf-8").split("\n")
        merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    else:
        model = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
        if model["type"] != "BPE":
            raise ValueError(f"tokenizer.json is {model['type']}, not BPE")
        numbers, merges = model["vocab"], model["merges"]
    ranks: dict[tuple[str, str], int] = {}
    for i, merge in enumerate(merges):
        pair = merge.split() if isinstance(merge, str) else merge
        if len(pair) != 2:
            raise ValueError(f"merge {merge!r} does not have two pieces")
        ranks[pair[0], pair[1]] = i
    return Pairs(numbers, ranks)
