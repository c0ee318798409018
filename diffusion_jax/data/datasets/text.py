"""Your own text, cut into pieces of one length."""

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
    """The pieces of a text file, one after the other; the last of them are `valid` and `test`.

    Capitals become small letters where the alphabet has none, and what is not in the alphabet
    becomes a space; several spaces in a row become one.

    Args:
        path: the file, UTF-8; relative to `data_dir` if that is set.
        length: letters of a piece.
        alphabet: the letters, with ranges such as `a-z`; at most 256, a space among them.
        valid: part of the pieces kept back for validation.
        test: part kept back for the test.
        data_dir: see `path`.

    Raises:
        DataError: the file cannot be read, is too short, or there is no such alphabet.
    """
    if valid + test >= 1.0:
        raise DataError(f"text: valid={valid} and test={test} leave nothing to train on")
    letters = _letters(alphabet)
    file = located(path, data_dir)
    try:
        said = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise DataError(f"{str(file)!r} is not UTF-8 text ({e.reason})") from e
    except OSError as e:
        raise DataError(f"cannot read {str(file)!r}: {e.strerror or e}{beside(file)}") from e
    medium = Text(letters)
    kept = np.asarray(medium.levels_of(_cleaned(said, letters)))
    count = len(kept) // length
    parts = {"test": int(test * count), "valid": int(valid * count)}
    if count - sum(parts.values()) < 2:
        raise DataError(
            f"{str(file)!r} has {len(kept)} letters, {count} pieces of {length}: too few to train "
            "on; take a longer text, or a shorter length"
        )
    images = kept[: count * length].reshape(count, 1, length, 1)
    ends = (count - sum(parts.values()), count - parts["test"], count)

    def load(split: str) -> Split:
        part = {"train": slice(0, ends[0]), "valid": slice(*ends[:2]), "test": slice(*ends[1:])}
        found = images[part[split]]
        name = f"{Path(path).stem}/{split}"
        return Split(name, found, np.zeros(len(found), np.int32), len(letters), 0)

    return Source(
        Path(path).stem, (1, length, 1), len(letters), 0, load, medium=medium, mirrors=False
    )


def _letters(alphabet: str) -> str:
    """The letters of an alphabet with ranges."""
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


def _cleaned(said: str, letters: str) -> str:
    """A text in the letters of an alphabet."""
    if not any(letter.isupper() for letter in letters):
        said = said.lower()
    known = set(letters)
    spaced = "".join(letter if letter in known else " " for letter in said)
    return " ".join(spaced.split())
