"""Texts as the states of the text tower of a pretrained CLIP (OpenAI's, or an OpenCLIP).

The folder is one in the layout of Hugging Face, of a whole CLIP or of its text tower alone (as
Stable Diffusion has it): `model.safetensors`, `config.json`, and `vocab.json` with `merges.txt` or
`tokenizer.json`; nothing is downloaded. The model stays as it is: each caption is read once, and
the network learns a projection of what it found. A token knows those before it only, so that the
text as a whole is read at its end.
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
_NOBODY = -1  # for padding: 0 is a mark like others


def _config(told: dict[str, Any]) -> dict[str, Any]:
    kind = told.get("model_type")
    if kind not in _KINDS:
        raise ValueError(f"config.json is of model_type {kind!r}, not {' or '.join(_KINDS)}")
    found = _clip.DEFAULTS | (told["text_config"] if kind == "clip" else told)
    if found["hidden_act"] not in ACTIVATIONS:
        raise ValueError(
            f"hidden_act {found['hidden_act']!r} is not among {', '.join(ACTIVATIONS)}"
        )
    if found["hidden_size"] % found["num_attention_heads"]:
        raise ValueError(
            f"hidden_size {found['hidden_size']} is not divisible by num_attention_heads "
            f"{found['num_attention_heads']}"
        )
    return found


@functools.lru_cache(maxsize=2)
def _opened(folder: str) -> Opened:
    path = expanded(folder)
    try:
        config = _config(json.loads((path / "config.json").read_text("utf-8")))
        cut = _bpe.read(path)
        shapes = _clip.shapes(config)
        known = max(cut.numbers.values()) + 1
        if known > config["vocab_size"]:
            raise ValueError(f"{known} pieces, but vectors for {config['vocab_size']}")
    except UNREADABLE as e:
        raise refusal("clip", folder, e, _NEEDED) from e
    there = safetensors.names(safetensors.parts(path))
    front = _clip.PREFIX if any(name.startswith(_clip.PREFIX) for name in there) else ""
    found, digest = weights(path, {front + name: shape for name, shape in shapes.items()})
    tensors = {name.removeprefix(front): a for name, a in found.items()}
    return Opened(
        cut, known, (_NOBODY, cut.numbers[_bpe.START], cut.numbers[_bpe.END]),
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
    """The text tower of a CLIP, which stays, and a small transformer on its states that learns.

    Args:
        path: the folder.
        length: pieces of the longest text, and two for its start and end; published models read 77.
        width: values in a token of the small transformer.
        depth: its blocks.
        heads: of its attention.
        digest: the weights must have; a run keeps it.

    Raises:
        ConfigError: there is no model, it is damaged, or its weights are others.
    """
    return checked(Clip(path, length, width, depth, heads, digest))
