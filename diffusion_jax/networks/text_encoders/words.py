"""Texts as words of the training captions: short, quick to learn, closed."""

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
        """Words, and padding, start and end."""
        return FIRST + len(self.known)

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """The words of a text, upper and lower case alike, and its punctuation."""
        number = {w: FIRST + i for i, w in enumerate(self.known)}
        found = _words.cut(text)
        strange = [w for w, _ in found if w not in number]
        if strange:
            raise ConfigError(
                f"unknown word {strange[0]!r}{nearest(strange[0], self.known)}: the captions of "
                f"training had {len(self.known)} words; use them, or train with bytes()"
            )
        return [(number[w], at) for w, at in found]

    def text(self, ids: Sequence[int]) -> str:
        """Words with spaces between them, none before a comma."""
        return _words.joined([self.known[i - FIRST] for i in ids])

    def settled(self, captions: Sequence[str]) -> TextEncoder:
        """With the words of these captions, unless it has words already."""
        if self.known:
            return self
        found = {w for text in captions for w, _ in _words.cut(text)}
        return replace(self, known=tuple(sorted(found)))


def make(
    length: TextLength = 32,
    width: Count = 64,
    depth: Whole = 2,
    heads: Count = 4,
    known: tuple[str, ...] = (),
) -> TextEncoder:
    """Words, read by a small transformer that is trained with the network.

    Args:
        length: words of the longest text, commas among them, and two for its start and end.
        width: values in a token.
        depth: blocks of the transformer.
        heads: of its attention.
        known: the words; empty: those of the training captions, which the run then keeps here.
    """
    return Words(length, width, depth, heads, known)
