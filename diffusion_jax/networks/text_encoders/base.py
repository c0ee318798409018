"""The contract of a text encoder: from strings to token numbers, on the host, without randomness.

A network embeds the numbers itself (`layers.text.TextTokens`) and learns to read them with
everything else. Number 0 is padding, and nothing but zeros means "no text": the null text of
classifier-free guidance. The empty text is another one, a start and an end.
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
    """A text encoder: a frozen dataclass, so that models that hold one can be compared.

    One with a network of its own, which does not learn, has `frozen_width` and `frozen(ids)`; see
    `as_read`. One whose last token knows the whole text has `pooled_at_end`. `unit` names what
    `length` counts, and `longest` is the greatest length there can be.

    Attributes:
        length: numbers in a text, start and end included.
        width: values in a token of the network that reads it.
        depth: blocks of that network.
        heads: of its attention.
        vocabulary: how many numbers there are, the first `FIRST` included.
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
        """The numbers of a text, each with the character it begins at; no start, no end."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of numbers without start, end and padding."""
        ...

    def settled(self, captions: Sequence[str]) -> "TextEncoder":
        """Itself, with what it takes from the captions of a training set."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Texts as a network reads them.

    Attributes:
        ids: int32 `[N, length]`.
        weight: float32 `[N, length]`, how often each token counts; 1 unless the text says more.
    """

    ids: np.ndarray
    weight: np.ndarray


def _framed(encoder: TextEncoder, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Pieces of each text between its start and end."""
    found = [encoder.pieces(text) for text in texts]
    room = encoder.length - 2
    text, pieces = max(zip(texts, found, strict=True), key=lambda f: len(f[1]), default=("", []))
    if len(pieces) > room:
        kind, needed = type(encoder).__name__.lower(), len(pieces) + 2
        more = needed <= (getattr(encoder, "longest", 0) or needed)
        raise ConfigError(
            f"the text {_short(text)!r} takes {len(pieces)} {getattr(encoder, 'unit', kind)}, the "
            f"model reads {room}: shorten it"
            + (f", or train with {kind}(length={needed})" if more else "")
        )
    return [[(START, -1), *f, (END, -1)] for f in found]


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
    """An encoder in a few words, for messages: without what it knows."""
    if encoder is None:
        return "no text encoder"
    kind = type(encoder).__name__.lower()
    return f"{kind}(length={encoder.length}) of {encoder.vocabulary} numbers"


def frozen_width(encoder: TextEncoder) -> int:
    """Values of each token's state, of an encoder that has a network of its own; 0 without."""
    return getattr(encoder, "frozen_width", 0)


def pooled_at_end(encoder: TextEncoder) -> bool:
    """Whether a text as a whole is what its last token says, and not the mean of all."""
    return getattr(encoder, "pooled_at_end", False)


def as_read(encoder: TextEncoder, ids: np.ndarray) -> np.ndarray:
    """What a network is told of texts: their numbers, or the states of an encoder that has them.

    Args:
        ids: int32 `[N, length]`.

    Returns:
        The same, or float16 `[N, length, frozen_width]`, zeros for padding.
    """
    return encoder.frozen(ids) if frozen_width(encoder) else ids  # pyright: ignore[reportAttributeAccessIssue]


def decode(encoder: TextEncoder, ids: np.ndarray) -> list[str]:
    """The texts of numbers `[N, length]`; empty for no text and for the empty one."""
    return [encoder.text([int(i) for i in row if i >= FIRST]) for row in ids]


_PART = re.compile(r"\\([()\\])|\(((?:[^()\\:]|\\.)+):([^()]*)\)|([^()\\])")


def parse_weights(prompt: str) -> tuple[str, list[float]]:
    """A prompt such as `"a (red:2) three"` as its text and the weight of every character.

    Raises:
        ConfigError: brackets that do not close, or a weight that is none.
    """
    text, weights, at = "", [], 0
    while at < len(prompt):
        m = _PART.match(prompt, at)
        if m is None:
            raise ConfigError(
                f"prompt {_short(prompt)!r}: a weight is written (words:2), and a bracket \\( or "
                f"\\); see character {at + 1}"
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
    """A text as the prompt that means it, brackets and all: `plain` undoes it."""
    return "".join(f"\\{c}" if c in "()\\" else c for c in text)


def _weight(prompt: str, written: str | None) -> float:
    try:
        value = 1.0 if written is None else float(written)
    except ValueError:
        value = float("nan")
    if not 0.0 <= value < float("inf"):
        raise ConfigError(
            f"prompt {_short(prompt)!r}: weight {written!r} must be a number, at least 0; to go "
            "away from a text use cfg(w=2.0, negative='...') or compose(...)"
        )
    return value


def prompts(encoder: TextEncoder, texts: Sequence[str]) -> Prompts:
    """Prompts as a network reads them, with the weights written in them.

    A token of weight 2 counts in attention as if it were there twice, one of weight 0 not at all.

    Raises:
        ConfigError: see `encode` and `parse_weights`.
    """
    parsed = [parse_weights(t) for t in texts]
    plain = [text for text, _ in parsed]
    ids = encode(encoder, plain)
    weight = np.ones(ids.shape, np.float32)
    framed = _framed(encoder, plain)
    for row, pieces, (_, each) in zip(weight, framed, parsed, strict=True):
        for k, (_, at) in enumerate(pieces):
            row[k] = each[at] if at >= 0 else 1.0
    return Prompts(ids, weight)
