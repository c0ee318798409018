"""Texts of fixed length: each level is a letter of an alphabet."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from diffusion_jax.data.pictures import Damaged
from diffusion_jax.runtime import fonts
from diffusion_jax.runtime.storage import write

_LINE, _LETTER = 18, 8  # height of a line and width of a letter, in pixels
_WIDTH = 32  # letters per line


@dataclass(frozen=True)
class Text:
    """Texts `(1, T, 1)`.

    Attributes:
        alphabet: the letter for each level.
    """

    alphabet: str
    name: str = "text"
    shapes: str = "(1, letters, 1)"
    layout: str = "[N,1,T,1]"
    file: str = "text"
    time: int = 1
    kinds: tuple[str, ...] = ()

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the shape is `(1, T, 1)`."""
        return len(shape) == 3 and shape[0] == shape[2] == 1

    def said(self, examples: np.ndarray) -> list[str]:
        """The examples as strings."""
        letters = np.asarray(list(self.alphabet))
        return ["".join(letters[e.ravel()]) for e in examples]

    def levels_of(self, text: str) -> np.ndarray:
        """The levels of a text, uint8 `[len(text)]`.

        Raises:
            Damaged: a letter is not in the alphabet.
        """
        number = {letter: i for i, letter in enumerate(self.alphabet)}
        unknown = sorted({letter for letter in text if letter not in number})
        if unknown:
            shown = " ".join(map(repr, unknown[:5]))
            raise Damaged(f"has {shown}, not in the alphabet {self.alphabet!r}")
        return np.asarray([number[letter] for letter in text], np.uint8)

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """Renders the texts, 32 letters per line."""
        from PIL import Image, ImageDraw

        font, out = fonts.dejavu(_LINE - 6, mono=True), []
        for text in self.said(examples):
            lines = [text[i : i + _WIDTH] for i in range(0, len(text), _WIDTH)]
            size = (_LETTER * min(len(text), _WIDTH), _LINE * len(lines))
            picture = Image.new("L", size)
            draw = ImageDraw.Draw(picture)
            for row, line in enumerate(lines):
                for column, letter in enumerate(line):
                    draw.text((column * _LETTER, row * _LINE), letter, 255, font)
            out.append(np.asarray(picture)[..., None])
        shown = np.stack(out).astype(np.float64) * ((levels - 1) / 255.0)
        return np.round(shown).astype(np.uint8)

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """The first letters of a text file, with line ends replaced by spaces."""
        text = file.read().decode(errors="replace").replace("\n", " ")
        if len(text) < shape[1]:
            raise Damaged(f"has {len(text)} letters, fewer than {shape[1]}")
        return self.levels_of(text[: shape[1]]).reshape(shape)

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Writes all texts to one file, one per line."""
        path = path.with_suffix(".txt")
        write(path, ("\n".join(self.said(examples)) + "\n").encode())
        return (path,)
