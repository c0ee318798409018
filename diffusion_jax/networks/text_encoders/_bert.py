"""BERT's encoder in NumPy: post-LN blocks with exact GELU (Devlin et al. 2019)."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from diffusion_jax.networks.text_encoders import _layers

_EPS = 1e-12  # the default of config.json

# The supported settings of the network and, below, of its tokenizer; missing ones default to these.
_SUPPORTED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
_LOWER = {
    "do_lower_case": (True,),
    "strip_accents": (None, True),
    "tokenize_chinese_chars": (True,),
}


def check(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> None:
    """Raises ValueError for networks and tokenizers that are not supported.

    Args:
        config: contents of `config.json`.
        tokenizer: contents of `tokenizer_config.json`; empty if there is none.
    """
    if config.get("model_type") != "bert":
        raise ValueError(f"config.json: model_type is {config.get('model_type')!r}, not 'bert'")
    for key, needed in _SUPPORTED.items():
        if config.get(key, needed) != needed:
            raise ValueError(f"config.json: {key} is {config[key]!r}; it must be {needed!r}")
    for key, allowed in _LOWER.items():
        if tokenizer.get(key, allowed[0]) not in allowed:
            raise ValueError(
                f"tokenizer_config.json: {key} is {tokenizer[key]!r}; it must be {allowed[-1]}, as "
                "for models of lower-case text"
            )


def shapes(c: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The expected tensors and their shapes, derived from `config.json`."""
    w, h = c["hidden_size"], c["intermediate_size"]
    out: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (c["vocab_size"], w),
        "embeddings.position_embeddings.weight": (c["max_position_embeddings"], w),
        "embeddings.token_type_embeddings.weight": (c["type_vocab_size"], w),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        dense = {f"attention.self.{n}": (w, w) for n in ("query", "key", "value")}
        dense |= {"attention.output.dense": (w, w), "intermediate.dense": (h, w),
                  "output.dense": (w, h)}  # fmt: skip
        for name, shape in dense.items():
            out |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    for name in norms:
        out |= {f"{name}.weight": (w,), f"{name}.bias": (w,)}
    return out


def hidden(tensors: Mapping[str, np.ndarray], c: Mapping[str, Any], ids: np.ndarray) -> np.ndarray:
    """The last hidden states `[N, L, W]` of `ids` `[N, L]`; 0 is padding, which is masked."""
    present = ids > 0
    bias = np.where(present, 0.0, _layers.MASKED).astype(np.float32)[:, None, None]
    dense = partial(_layers.dense, tensors)
    norm = partial(_layers.layer_norm, tensors, eps=c.get("layer_norm_eps", _EPS))
    table = {k: tensors[f"embeddings.{k}_embeddings.weight"] for k in
             ("word", "position", "token_type")}  # fmt: skip
    x = table["word"][ids] + table["position"][: ids.shape[1]] + table["token_type"][0]
    x = norm("embeddings.LayerNorm", x)
    heads = c["num_attention_heads"]
    scale = 1.0 / math.sqrt(c["hidden_size"] // heads)
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        q, k, v = (dense(f"{layer}.attention.self.{n}", x) for n in ("query", "key", "value"))
        mixed = _layers.attend(q, k, v, bias, heads, scale)
        x = norm(f"{layer}.attention.output.LayerNorm",
                 x + dense(f"{layer}.attention.output.dense", mixed))  # fmt: skip
        h = _layers.ACTIVATIONS["gelu"](dense(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", x + dense(f"{layer}.output.dense", h))
    return np.where(present[..., None], x, 0.0)
