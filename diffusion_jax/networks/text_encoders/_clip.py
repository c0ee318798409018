"""The text tower of a CLIP in NumPy: pre-LN blocks with causal attention (Radford et al. 2021).

Names of tensors are those of Hugging Face's `CLIPTextModel`, without the `PREFIX` that some have.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from diffusion_jax.networks.text_encoders import _layers

# Defaults of settings that are missing in `config.json`.
DEFAULTS = {"vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048,
            "num_hidden_layers": 12, "num_attention_heads": 8, "max_position_embeddings": 77,
            "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}  # fmt: skip
PREFIX = "text_model."


def shapes(c: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The expected tensors and their shapes, derived from `config.json`."""
    w, h = c["hidden_size"], c["intermediate_size"]
    out: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (c["vocab_size"], w),
        "embeddings.position_embedding.weight": (c["max_position_embeddings"], w),
    }
    norms = ["final_layer_norm"]
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layers.{i}"
        norms += [f"{layer}.layer_norm1", f"{layer}.layer_norm2"]
        dense = {f"self_attn.{n}_proj": (w, w) for n in ("q", "k", "v", "out")}
        for name, shape in (dense | {"mlp.fc1": (h, w), "mlp.fc2": (w, h)}).items():
            out |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    for name in norms:
        out |= {f"{name}.weight": (w,), f"{name}.bias": (w,)}
    return out


def hidden(tensors: Mapping[str, np.ndarray], c: Mapping[str, Any], ids: np.ndarray) -> np.ndarray:
    """The last hidden states of `ids` `[N, L]` after the last norm, `[N, L, W]`.

    Negative numbers are padding at the end: no real token attends to it, and its states are zeros.
    """
    dense = partial(_layers.dense, tensors)
    norm = partial(_layers.layer_norm, tensors, eps=c["layer_norm_eps"])
    heads, n = c["num_attention_heads"], ids.shape[1]
    scale = 1.0 / math.sqrt(c["hidden_size"] // heads)
    causal = np.triu(np.full((n, n), _layers.MASKED, np.float32), 1)
    act = _layers.ACTIVATIONS[c["hidden_act"]]
    x = tensors["embeddings.token_embedding.weight"][np.maximum(ids, 0)]
    x = x + tensors["embeddings.position_embedding.weight"][:n]
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layers.{i}"
        h = norm(f"{layer}.layer_norm1", x)
        q, k, v = (dense(f"{layer}.self_attn.{name}_proj", h) for name in ("q", "k", "v"))
        mixed = _layers.attend(q, k, v, causal, heads, scale)
        x = x + dense(f"{layer}.self_attn.out_proj", mixed)
        h = act(dense(f"{layer}.mlp.fc1", norm(f"{layer}.layer_norm2", x)))
        x = x + dense(f"{layer}.mlp.fc2", h)
    return np.where((ids >= 0)[..., None], norm("final_layer_norm", x), 0.0)
