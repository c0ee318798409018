"""Texts as the states of the encoder of a pretrained T5 (the first, 1.1, or Flan).

The folder has `model.safetensors` (or parts, and their index), `config.json`, and `spiece.model` or
`tokenizer.json`; nothing is downloaded. It may be a whole T5 or only its encoder (as in Stable
Diffusion 3). The model is frozen: each caption is encoded once, and the network learns a projection
of its states.
"""

import functools
import json
from dataclasses import dataclass
from typing import Any

from diffusion_jax.allowed import Count, TextLength, Whole
from diffusion_jax.networks.text_encoders import _t5, _unigram
from diffusion_jax.networks.text_encoders._frozen import (
    UNREADABLE,
    Frozen,
    Opened,
    checked,
    refusal,
    weights,
)
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.runtime import safetensors
from diffusion_jax.runtime.home import expanded

_NEEDED = "config.json, spiece.model or tokenizer.json, and model.safetensors of a T5"
_PADDING, _END = "<pad>", "</s>"


def _config(content: dict[str, Any]) -> dict[str, Any]:
    if content.get("model_type") != "t5":
        raise ValueError(f"config.json is of model_type {content.get('model_type')!r}, not t5")
    config = _t5.DEFAULTS | content
    if config["feed_forward_proj"] not in _t5.FEED_FORWARD:
        raise ValueError(
            f"feed_forward_proj {config['feed_forward_proj']!r} is not among "
            f"{', '.join(_t5.FEED_FORWARD)}"
        )
    return config


@functools.lru_cache(maxsize=2)
def _opened(folder: str) -> Opened:
    path = expanded(folder)
    try:
        config = _config(json.loads((path / "config.json").read_text("utf-8")))
        cut = _unigram.read(path)
        size = len(cut.names)
        if cut.names[:1] != (_PADDING,) or _END not in cut.names:
            raise ValueError(f"its first piece is not {_PADDING}, or it has no {_END}")
        if size > config["vocab_size"]:
            raise ValueError(f"{size} pieces, but vectors for {config['vocab_size']}")
    except UNREADABLE as e:
        raise refusal("t5", folder, e, _NEEDED) from e
    names = safetensors.names(safetensors.parts(path))
    embedding = next((n for n in _t5.EMBEDDINGS if n in names), _t5.EMBEDDINGS[0])
    tensors, digest = weights(path, _t5.shapes(config, embedding))
    return Opened(
        cut, size, (0, None, cut.names.index(_END)),
        functools.partial(_t5.hidden, tensors, config), config["d_model"], 0, digest,
    )  # fmt: skip


@dataclass(frozen=True)
class T5(Frozen):
    """See the module docstring."""

    def opened(self) -> Opened:
        """The model."""
        return _opened(self.path)


def make(
    path: str, length: TextLength = 32, width: Count = 64, depth: Whole = 1, heads: Count = 4,
    digest: str = "",
) -> TextEncoder:  # fmt: skip
    """The frozen encoder of a T5, and a small trainable transformer on its states.

    Args:
        path: the folder.
        length: pieces of the longest text, plus two for its start and end.
        width: values per token of the small transformer.
        depth: number of its blocks.
        heads: number of its attention heads.
        digest: expected SHA-256 of the weights, which a run records.

    Raises:
        ConfigError: there is no model, it is damaged, or its weights have another digest.
    """
    return checked(T5(path, length, width, depth, heads, digest))
