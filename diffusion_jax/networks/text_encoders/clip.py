"""Texts as the states of the text tower of a pretrained CLIP (OpenAI's, or an OpenCLIP).

The folder has Hugging Face's layout, of a whole CLIP or of its text tower alone (as in Stable
Diffusion): `model.safetensors`, `config.json`, and `vocab.json` with `merges.txt`, or
`tokenizer.json`; nothing is downloaded. The model is frozen: each caption is encoded once, and the
network learns a projection of its states. Attention is causal, so the last token represents the
text.
"""

import functools
import json
from dataclasses import dataclass
from typing import Any

from diffusion_jax.allowed import Count, TextLength, Whole
from diffusion_jax.networks.text_encoders import _bpe, _clip
from diffusion_jax.networks.text_encoders._frozen import (
    UNREADABLE,
    Frozen,
    Opened,
    checked,
    refusal,
    weights,
)
from diffusion_jax.networks.text_encoders._layers import ACTIVATIONS
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.runtime import safetensors
from diffusion_jax.runtime.home import expanded

_NEEDED = "config.json, vocab.json, merges.txt and model.safetensors of a CLIP"
_KINDS = ("clip", "clip_text_model")
_PADDING = -1  # 0 is an ordinary piece


def _config(content: dict[str, Any]) -> dict[str, Any]:
    kind = content.get("model_type")
    if kind not in _KINDS:
        raise ValueError(f"config.json is of model_type {kind!r}, not {' or '.join(_KINDS)}")
    config = _clip.DEFAULTS | (content["text_config"] if kind == "clip" else content)
    if config["hidden_act"] not in ACTIVATIONS:
        raise ValueError(
            f"hidden_act {config['hidden_act']!r} is not among {', '.join(ACTIVATIONS)}"
        )
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            f"hidden_size {config['hidden_size']} is not divisible by num_attention_heads "
            f"{config['num_attention_heads']}"
        )
    return config


@functools.lru_cache(maxsize=2)
def _opened(folder: str) -> Opened:
    path = expanded(folder)
    try:
        config = _config(json.loads((path / "config.json").read_text("utf-8")))
        cut = _bpe.read(path)
        shapes = _clip.shapes(config)
        size = max(cut.numbers.values()) + 1
        if size > config["vocab_size"]:
            raise ValueError(f"{size} pieces, but vectors for {config['vocab_size']}")
    except UNREADABLE as e:
        raise refusal("clip", folder, e, _NEEDED) from e
    names = safetensors.names(safetensors.parts(path))
    prefix = _clip.PREFIX if any(name.startswith(_clip.PREFIX) for name in names) else ""
    tensors, digest = weights(path, {prefix + name: shape for name, shape in shapes.items()})
    tensors = {name.removeprefix(prefix): a for name, a in tensors.items()}
    return Opened(
        cut, size, (_PADDING, cut.numbers[_bpe.START], cut.numbers[_bpe.END]),
        functools.partial(_clip.hidden, tensors, config),
        config["hidden_size"], config["max_position_embeddings"], digest,
    )  # fmt: skip


@dataclass(frozen=True)
class Clip(Frozen):
    """See the module docstring."""

    pooled_at_end = True

    def opened(self) -> Opened:
        """The model."""
        return _opened(self.path)


def make(
    path: str, length: TextLength = 32, width: Count = 64, depth: Whole = 1, heads: Count = 4,
    digest: str = "",
) -> TextEncoder:  # fmt: skip
    """The frozen text tower of a CLIP, and a small trainable transformer on its states.

    Args:
        path: the folder.
        length: pieces of the longest text, plus two for its start and end; at most 77 for published
            models.
        width: values per token of the small transformer.
        depth: number of its blocks.
        heads: number of its attention heads.
        digest: expected SHA-256 of the weights, which a run records.

    Raises:
        ConfigError: there is no model, it is damaged, or its weights have another digest.
    """
    return checked(Clip(path, length, width, depth, heads, digest))
