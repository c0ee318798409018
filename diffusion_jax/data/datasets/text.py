"""Your own text, cut into pieces of equal length."""

from pathlib import Path

import numpy as np

from diffusion_jax.allowed import Count, Rate
from diffusion_jax.data.base import Source, Split, beside, located
from diffusion_jax.data.media.text import Text
from diffusion_jax.errors import DataError


def make(
    path: str,
    length: Count = 64,
    alphabet: str = "a-z ",
    valid: Rate = 0.05,
    test: Rate = 0.05,
    data_dir: str = "",
) -> Source:
    """Consecutive pieces of a text file; the last ones are `valid` and `test`.

    Text is converted to lower case if the alphabet has no capitals. Letters outside the alphabet
    become spaces, and repeated spaces become one.

    Args:
        path: the file, UTF-8; relative to `data_dir` if that is set.
        length: number of letters in a piece.
        alphabet: at most 256 letters, with ranges such as `a-z`; must include a space.
        valid: fraction of the pieces held out for validation.
        test: fraction of the pieces held out for the test.
        data_dir: see `path`.

    Raises:
        DataError: the file cannot be read or is too short, or the alphabet is not valid.
    """
    if valid + test >= 1.0:
        raise DataError(f"text: valid={valid} and test={test} leave nothing to train on")
    letters = _letters(alphabet)
    file = located(path, data_dir)
    try:
        content = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise DataError(f"{str(file)!r} is not UTF-8 text ({e.reason})") from e
    except OSError as e:
        raise DataError(f"cannot read {str(file)!r}: {e.strerror or e}{beside(file)}") from e
    medium = Text(letters)
    cleaned = np.asarray(medium.levels_of(_cleaned(content, letters)))
    count = len(cleaned) // length
    parts = {"test": int(test * count), "valid": int(valid * count)}
    if count - sum(parts.values()) < 2:
        raise DataError(
            f"{str(file)!r} has {len(cleaned)} letters, {count} pieces of {length}: too few to "
            "train on; use a longer text, or a smaller length"
        )
    images = cleaned[: count * length].reshape(count, 1, length, 1)
    ends = (count - sum(parts.values()), count - parts["test"], count)

    def load(split: str) -> Split:
        part = {"train": slice(0, ends[0]), "valid": slice(*ends[:2]), "test": slice(*ends[1:])}
        pieces = images[part[split]]
        name = f"{Path(path).stem}/{split}"
        return Split(name, pieces, np.zeros(len(pieces), np.int32), len(letters), 0)

    return Source(
        Path(path).stem, (1, length, 1), len(letters), 0, load, medium=medium, mirrors=False
    )


def _letters(alphabet: str) -> str:
    """Expands the ranges of an alphabet."""
    out, i = [], 0
    while i < len(alphabet):
        if alphabet[i + 1 : i + 2] == "-" and i + 2 < len(alphabet):
            out += [chr(k) for k in range(ord(alphabet[i]), ord(alphabet[i + 2]) + 1)]
            i += 3
        else:
            out.append(alphabet[i])
            i += 1
    letters = "".join(dict.fromkeys(out))
    if " " not in letters or not 2 <= len(letters) <= 256:
        raise DataError(f"text: alphabet={alphabet!r} must have a space and 2 to 256 letters")
    return letters


def _cleaned(text: str, letters: str) -> str:
    """Converts a text to the letters of an alphabet."""
    if not any(letter.isupper() for letter in letters):
        text = text.lower()
    allowed = set(letters)
    spaced = "".join(letter if letter in allowed else " " for letter in text)
    return " ".join(spaced.split())
