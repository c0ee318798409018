"""Texts as their bytes in UTF-8: works for any text, without a vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_jax.allowed import Count, TextLength, Whole
from diffusion_jax.networks.text_encoders.base import FIRST, TextEncoder


@dataclass(frozen=True)
class Bytes:
    """See the module docstring."""

    length: int
    width: int
    depth: int
    heads: int
    vocabulary: int = FIRST + 256

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """The bytes of each character."""
        return [(FIRST + b, at) for at, c in enumerate(text) for b in c.encode()]

    def text(self, ids: Sequence[int]) -> str:
        """Bytes as text; invalid UTF-8 becomes replacement characters."""
        return bytes(i - FIRST for i in ids).decode(errors="replace")

    def settled(self, captions: Sequence[str]) -> TextEncoder:
        """Unchanged, as bytes need no vocabulary."""
        return self


def make(
    length: TextLength = 80, width: Count = 64, depth: Whole = 2, heads: Count = 4
) -> TextEncoder:
    """Bytes, read by a small transformer that is trained with the network.

    Args:
        length: bytes of the longest text, plus two for its start and end.
        width: values per token.
        depth: number of blocks of the transformer.
        heads: number of its attention heads.
    """
    return Bytes(length, width, depth, heads)
