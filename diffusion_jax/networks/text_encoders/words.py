"""Texts as words of the training captions: a small, closed vocabulary that is quick to learn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diffusion_jax.allowed import Count, TextLength, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.text_encoders import _words
from diffusion_jax.networks.text_encoders.base import FIRST, TextEncoder
from diffusion_jax.registry import nearest


@dataclass(frozen=True)
class Words:
    """See the module docstring.

    Attributes:
        known: the words, in the order of their numbers.
    """

    length: int
    width: int
    depth: int
    heads: int
    known: tuple[str, ...]

    @property
    def vocabulary(self) -> int:
        """Number of words, with padding, start and end."""
        return FIRST + len(self.known)

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """The words and punctuation marks of a text, ignoring case."""
        number = {w: FIRST + i for i, w in enumerate(self.known)}
        words = _words.cut(text)
        unknown = [w for w, _ in words if w not in number]
        if unknown:
            raise ConfigError(
                f"unknown word {unknown[0]!r}{nearest(unknown[0], self.known)}: the training "
                f"captions had {len(self.known)} words; use them, or train with bytes()"
            )
        return [(number[w], at) for w, at in words]

    def text(self, ids: Sequence[int]) -> str:
        """Words joined by spaces, without a space before commas."""
        return _words.joined([self.known[i - FIRST] for i in ids])

    def settled(self, captions: Sequence[str]) -> TextEncoder:
        """A copy with the words of these captions, unless it has words already."""
        if self.known:
            return self
        words = {w for text in captions for w, _ in _words.cut(text)}
        return replace(self, known=tuple(sorted(words)))


def make(
    length: TextLength = 32,
    width: Count = 64,
    depth: Whole = 2,
    heads: Count = 4,
    known: tuple[str, ...] = (),
) -> TextEncoder:
    """Words, read by a small transformer that is trained with the network.

    Args:
        length: words of the longest text, including commas, plus two for its start and end.
        width: values per token.
        depth: number of blocks of the transformer.
        heads: number of its attention heads.
        known: the words; empty for those of the training captions, which the run then records here.
    """
    return Words(length, width, depth, heads, known)
