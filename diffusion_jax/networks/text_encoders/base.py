"""The contract of a text encoder: from strings to token numbers, on the host, without randomness.

A network embeds the numbers itself (`layers.text.TextTokens`), with weights that are trained with
the others. Number 0 is padding, and zeros only mean "no text", the null text of classifier-free
guidance. The empty text is different: a start and an end.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from diffusion_jax.errors import ConfigError

PADDING, START, END, FIRST = 0, 1, 2, 3


@runtime_checkable
class TextEncoder(Protocol):
    """A text encoder: a frozen dataclass, so that models that contain one can be compared.

    Optional attributes: `frozen_width` and `frozen(ids)`, of an encoder with a frozen network of
    its own (see `as_read`); `pooled_at_end`, of one with causal attention, in which only the last
    token has seen the whole text; `unit`, what `length` counts; `longest`, the largest possible
    length.

    Attributes:
        length: token numbers per text, start and end included.
        width: values per token of the small transformer that reads the numbers.
        depth: number of its blocks.
        heads: number of its attention heads.
        vocabulary: number of token numbers, including the first `FIRST`.
    """

    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def depth(self) -> int: ...  # noqa: D102
    @property
    def heads(self) -> int: ...  # noqa: D102
    @property
    def vocabulary(self) -> int: ...  # noqa: D102

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """The numbers of a text, each with its position in it, without start and end."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of numbers without start, end and padding."""
        ...

    def settled(self, captions: Sequence[str]) -> "TextEncoder":
        """A copy fitted to the captions of training (for example with their vocabulary)."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts.

    Attributes:
        ids: token numbers, int32 `[N, length]`.
        weight: weight of each token in attention, float32 `[N, length]`; 1 if the prompt has none.
    """

    ids: np.ndarray
    weight: np.ndarray


def _framed(encoder: TextEncoder, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Pieces of each text between its start and end."""
    pieces_of = [encoder.pieces(text) for text in texts]
    limit = encoder.length - 2
    pairs = zip(texts, pieces_of, strict=True)
    text, pieces = max(pairs, key=lambda pair: len(pair[1]), default=("", []))
    if len(pieces) > limit:
        kind, needed = type(encoder).__name__.lower(), len(pieces) + 2
        possible = needed <= (getattr(encoder, "longest", 0) or needed)
        raise ConfigError(
            f"the text {_short(text)!r} takes {len(pieces)} {getattr(encoder, 'unit', kind)}, the "
            f"model reads {limit}: shorten it"
            + (f", or train with {kind}(length={needed})" if possible else "")
        )
    return [[(START, -1), *pieces, (END, -1)] for pieces in pieces_of]


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def encode(encoder: TextEncoder, texts: Sequence[str]) -> np.ndarray:
    """Texts as numbers, int32 `[N, length]`.

    Raises:
        ConfigError: a text is longer than the encoder's length, or has unknown words.
    """
    out = np.zeros((len(texts), encoder.length), np.int32)
    for row, pieces in zip(out, _framed(encoder, texts), strict=True):
        row[: len(pieces)] = [i for i, _ in pieces]
    return out


def described(encoder: TextEncoder | None) -> str:
    """A short description of an encoder, without its vocabulary, for messages."""
    if encoder is None:
        return "no text encoder"
    kind = type(encoder).__name__.lower()
    return f"{kind}(length={encoder.length}) with {encoder.vocabulary} token numbers"


def frozen_width(encoder: TextEncoder) -> int:
    """Values per token's state of an encoder with a frozen network; 0 without one."""
    return getattr(encoder, "frozen_width", 0)


def pooled_at_end(encoder: TextEncoder) -> bool:
    """Whether the last token represents the whole text, instead of the mean of all tokens."""
    return getattr(encoder, "pooled_at_end", False)


def as_read(encoder: TextEncoder, ids: np.ndarray) -> np.ndarray:
    """The network's input for texts: their numbers, or the states of a frozen encoder.

    Args:
        encoder: the text encoder.
        ids: token numbers, int32 `[N, length]`.

    Returns:
        `ids`, or float16 `[N, length, frozen_width]`, zeros for padding.
    """
    return encoder.frozen(ids) if frozen_width(encoder) else ids  # pyright: ignore[reportAttributeAccessIssue]


def decode(encoder: TextEncoder, ids: np.ndarray) -> list[str]:
    """The texts of numbers `[N, length]`; empty for the null text and for the empty text."""
    return [encoder.text([int(i) for i in row if i >= FIRST]) for row in ids]


_PART = re.compile(r"\\([()\\])|\(((?:[^()\\:]|\\.)+):([^()]*)\)|([^()\\])")


def parse_weights(prompt: str) -> tuple[str, list[float]]:
    """Splits a prompt such as `"a (red:2) three"` into its text and the weight of every character.

    Raises:
        ConfigError: a bracket is not closed, or a weight is not valid.
    """
    text, weights, at = "", [], 0
    while at < len(prompt):
        m = _PART.match(prompt, at)
        if m is None:
            raise ConfigError(
                f"prompt {_short(prompt)!r}: write a weight as (words:2), and a literal bracket as "
                f"\\( or \\); see character {at + 1}"
            )
        inner = m[1] or m[4] or re.sub(r"\\(.)", r"\1", m[2])
        text += inner
        weights += [_weight(prompt, m[3])] * len(inner)
        at = m.end()
    return text, weights


def plain(prompt: str) -> str:
    """A prompt without the weights in it."""
    return parse_weights(prompt)[0]


def escaped(text: str) -> str:
    """A text as a prompt, with its brackets escaped; the inverse of `plain`."""
    return "".join(f"\\{c}" if c in "()\\" else c for c in text)


def _weight(prompt: str, written: str | None) -> float:
    try:
        value = 1.0 if written is None else float(written)
    except ValueError:
        value = float("nan")
    if not 0.0 <= value < float("inf"):
        raise ConfigError(
            f"prompt {_short(prompt)!r}: weight {written!r} must be a number, at least 0; to guide "
            "away from a text use cfg(w=2.0, negative='...') or compose(...)"
        )
    return value


def prompts(encoder: TextEncoder, texts: Sequence[str]) -> Prompts:
    """Encodes prompts, with the weights written in them.

    A token of weight 2 counts in attention as if it occurred twice, one of weight 0 not at all.

    Raises:
        ConfigError: see `encode` and `parse_weights`.
    """
    parsed = [parse_weights(t) for t in texts]
    plain = [text for text, _ in parsed]
    ids = encode(encoder, plain)
    weight = np.ones(ids.shape, np.float32)
    framed = _framed(encoder, plain)
    for row, pieces, (_, weights) in zip(weight, framed, parsed, strict=True):
        for k, (_, at) in enumerate(pieces):
            row[k] = weights[at] if at >= 0 else 1.0
    return Prompts(ids, weight)
