"""SentencePiece's unigram tokenizer: the most probable segmentation of a text (Kudo 2018).

It is read from `spiece.model`, as written by SentencePiece, or from `tokenizer.json`.
"""

import base64
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

SPACE = "\u2581"  # precedes a word
_UNKNOWN = 10.0  # extra cost, in nats, of a character without a piece over the rarest piece
_CUT = (1, 4)  # types of pieces that segmentation uses: normal and user-defined
_MODEL = 1  # model type "unigram"


@dataclass(frozen=True)
class Unigram:
    """Pieces and their costs.

    Attributes:
        names: the pieces, in the order of their numbers.
        costs: costs in nats of the pieces that segmentation uses.
        unknown: number of the unknown piece.
        rules: compiled normalisation rules; see `_Rules`.
    """

    names: tuple[str, ...]
    costs: dict[str, float]
    unknown: int
    rules: bytes

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names) if name in self.costs}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.costs), default=0)

    @cached_property
    def _rules(self) -> "_Rules":
        return _Rules(self.rules)

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """Numbers of pieces, each with the position in `text` of its first character."""
        chars, at = self._normalised(text)
        unknown_cost = max(self.costs.values(), default=0.0) + _UNKNOWN
        best: list[tuple[float, int, int]] = [(math.inf, 0, 0)] * (len(chars) + 1)
        best[0] = (0.0, 0, 0)
        for i in range(len(chars)):
            ways = [(j, chars[i:j]) for j in range(i + 1, min(len(chars), i + self._longest) + 1)]
            steps = [(j, self._numbers[s], self.costs[s]) for j, s in ways if s in self.costs]
            if not steps or steps[0][0] > i + 1:
                steps.append((i + 1, self.unknown, unknown_cost))
            for j, number, cost in steps:
                if best[i][0] + cost < best[j][0]:
                    best[j] = (best[i][0] + cost, i, number)
        out: list[tuple[int, int]] = []  # from the end
        end = len(chars)
        while end:
            _, start, number = best[end]
            if out and number == self.unknown == out[-1][0]:
                out.pop()  # merge adjacent unknown pieces
            out.append((number, at[start]))
            end = start
        return out[::-1]

    def _normalised(self, text: str) -> tuple[str, list[int]]:
        """The normalised text, `SPACE` before each word, and each character's old position."""
        out: list[tuple[str, int]] = []
        new_word = True
        for c, k in self._rules.apply(text):
            if c != " ":
                out += [(SPACE, k), (c, k)] if new_word else [(c, k)]
            new_word = c == " "
        return "".join(c for c, _ in out), [k for _, k in out]

    def text(self, numbers: Sequence[int]) -> str:
        """The text of pieces."""
        return "".join(self.names[n] for n in numbers).replace(SPACE, " ").strip()


class _Rules:
    """SentencePiece's normalisation rules: a trie of bytes (darts), and the replacements."""

    def __init__(self, compiled: bytes) -> None:
        size = struct.unpack("<I", compiled[:4])[0] if compiled else 0
        if size % 4 or size > max(len(compiled) - 4, 0):
            raise ValueError("its normalisation rules are damaged")
        self.units = struct.unpack(f"<{size // 4}I", compiled[4 : 4 + size])
        self.after = compiled[4 + size :]

    def _longest(self, data: bytes) -> tuple[int, str]:
        """The longest rule for the start of `data`: number of bytes (0 for none), replacement."""
        match, units = (0, ""), self.units
        if not units:
            return match
        node = _children(units[0])
        for k, byte in enumerate(data):
            node ^= byte
            if node >= len(units) or units[node] & 0x800000FF != byte:
                break
            leaf = bool(units[node] >> 8 & 1)
            node ^= _children(units[node])
            if leaf:
                start = units[node] & 0x7FFFFFFF
                match = (k + 1, self.after[start : self.after.index(0, start)].decode())
        return match

    def apply(self, text: str) -> Iterator[tuple[str, int]]:
        """Normalises a text.

        Yields:
            Characters, each with its position in the original text.
        """
        data = text.encode(errors="replace")
        at = [k for k, c in enumerate(text) for _ in c.encode(errors="replace")]
        i = 0
        while i < len(data):
            size, instead = self._longest(data[i : i + 64])
            if not size:
                size = next((n for n in range(1, 4) if at[i + n : i + n + 1] != at[i : i + 1]), 4)
                instead = data[i : i + size].decode()
            yield from ((c, at[i]) for c in instead)
            i += size


def _children(unit: int) -> int:
    return (unit >> 10) << ((unit & 0x200) >> 6)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Reads a protocol buffer.

    Yields:
        The number of each field, and its value: an integer, or bytes.
    """
    i = 0

    def varint() -> int:
        nonlocal i
        value = shift = 0
        while True:
            byte = data[i]
            i += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while i < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        if kind not in (1, 2, 5):
            raise ValueError("it is not a SentencePiece model")
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        if i + size > len(data):
            raise ValueError("it is truncated")
        yield key >> 3, data[i : i + size]
        i += size


def _of_sentencepiece(data: bytes) -> Unigram:
    names, costs, unknown, rules, kind, byte_fallback = [], {}, 0, b"", _MODEL, 0
    for field, value in _fields(data):
        if field == 1:  # a piece: its text, score and type
            piece = dict(_fields(value))
            name, type_ = piece[1].decode(), piece.get(3, 1)
            if type_ in _CUT:
                costs[name] = -struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]
            elif type_ == 2:
                unknown = len(names)
            names.append(name)
        elif field == 2:  # training settings
            settings = dict(_fields(value))
            kind, byte_fallback = settings.get(3, _MODEL), settings.get(35, 0)
        elif field == 3:  # normalisation
            settings = dict(_fields(value))
            rules = settings.get(2, b"")
            if not all(settings.get(flag, 1) for flag in (3, 4, 5)):
                raise ValueError("it treats spaces differently from T5")
    if kind != _MODEL or byte_fallback or not costs:
        raise ValueError("it is not a unigram model without byte fallback, as T5's are")
    return Unigram(tuple(names), costs, unknown, rules)


def _rules_in(settings: Any) -> bytes:
    """The compiled rules, which may be nested in the normalizers of a `tokenizer.json`."""
    if not isinstance(settings, dict):
        return b""
    if "precompiled_charsmap" in settings:
        return base64.b64decode(settings["precompiled_charsmap"] or "")
    return next(filter(None, map(_rules_in, settings.get("normalizers", ()))), b"")


def _of_json(tokenizer: Any) -> Unigram:
    model = tokenizer["model"]
    if model.get("type", "Unigram") != "Unigram" or model.get("byte_fallback"):
        raise ValueError(
            f"it is {model.get('type')}, not a unigram model without byte fallback, as T5's are"
        )
    special = {a["content"] for a in tokenizer.get("added_tokens", ()) if a.get("special")}
    names = tuple(name for name, _ in model["vocab"])
    unknown = model["unk_id"]
    costs = {n: -s for n, s in model["vocab"] if n not in special and n != names[unknown]}
    return Unigram(names, costs, unknown, _rules_in(tokenizer.get("normalizer")))


def read(folder: Path) -> Unigram:
    """The pieces in a folder, from `spiece.model` or `tokenizer.json`.

    Raises:
        OSError: there is no such file.
        ValueError: it is not such a model.
    """
    model, other = folder / "spiece.model", folder / "tokenizer.json"
    name = model if model.exists() or not other.exists() else other
    try:
        if name == model:
            return _of_sentencepiece(model.read_bytes())
        return _of_json(json.loads(other.read_text("utf-8")))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as e:
        raise ValueError(f"{name.name} cannot be read: {e}") from e
