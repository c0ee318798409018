"""The encoder of T5 in NumPy: relative positions, no scaling of attention (Raffel et al. 2020).

Version 1.1 has a gate in the feed-forward part (Shazeer 2020, "GLU variants"). Residuals of the
large models overflow float16, so everything is float32.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from diffusion_jax.networks.text_encoders import _layers

# Defaults of settings that are missing in `config.json`.
DEFAULTS = {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6,
            "num_heads": 8, "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
            "feed_forward_proj": "relu"}  # fmt: skip
FEED_FORWARD = {"relu": "relu", "gated-gelu": "gelu_new"}  # activation by `feed_forward_proj`
EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")  # two names of the same tensor
_POSITIONS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def shapes(c: Mapping[str, Any], embedding: str = EMBEDDINGS[0]) -> dict[str, tuple[int, ...]]:
    """The expected tensors and their shapes, derived from `config.json`."""
    w, h, inner = c["d_model"], c["d_ff"], c["num_heads"] * c["d_kv"]
    out: dict[str, tuple[int, ...]] = {
        embedding: (c["vocab_size"], w),
        _POSITIONS: (c["relative_attention_num_buckets"], c["num_heads"]),
        "encoder.final_layer_norm.weight": (w,),
    }
    into = ("wi_0", "wi_1") if c["feed_forward_proj"].startswith("gated-") else ("wi",)
    for i in range(c["num_layers"]):
        attention, forward = (f"encoder.block.{i}.layer.{k}" for k in (0, 1))
        out |= {f"{p}.layer_norm.weight": (w,) for p in (attention, forward)}
        out |= {f"{attention}.SelfAttention.{n}.weight": (inner, w) for n in "qkv"}
        out[f"{attention}.SelfAttention.o.weight"] = (w, inner)
        out |= {f"{forward}.DenseReluDense.{n}.weight": (h, w) for n in into}
        out[f"{forward}.DenseReluDense.wo.weight"] = (w, h)
    return out


def buckets(n: int, count: int, furthest: int) -> np.ndarray:
    """The bucket (one of `count`) of the distance from each query to each key, int `[N, N]`.

    Half of the buckets are for keys after the query. In each half, half of the buckets are single
    distances and the others logarithmic up to `furthest`.
    """
    offset = np.arange(n)[None] - np.arange(n)[:, None]
    half, exact = count // 2, count // 4
    far = np.maximum(np.abs(offset), 1).astype(np.float32) / np.float32(exact)
    far = np.log(far) / np.float32(math.log(furthest / exact)) * np.float32(half - exact)
    distance = np.minimum(exact + far.astype(int), half - 1)
    return half * (offset > 0) + np.where(np.abs(offset) < exact, np.abs(offset), distance)


def hidden(tensors: Mapping[str, np.ndarray], c: Mapping[str, Any], ids: np.ndarray) -> np.ndarray:
    """The last hidden states `[N, L, W]` of `ids` `[N, L]`; 0 is padding, which is masked."""
    present, n = ids > 0, ids.shape[1]
    dense = partial(_layers.dense, tensors)
    which = buckets(n, c["relative_attention_num_buckets"], c["relative_attention_max_distance"])
    bias = tensors[_POSITIONS][which].transpose(2, 0, 1)[None]
    bias = np.where(present[:, None, None], bias, np.float32(_layers.MASKED))
    act = _layers.ACTIVATIONS[FEED_FORWARD[c["feed_forward_proj"]]]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        square = np.square(x).mean(-1, keepdims=True)
        return x / np.sqrt(square + c["layer_norm_epsilon"]) * tensors[f"{name}.weight"]

    x = next(tensors[name] for name in EMBEDDINGS if name in tensors)[ids]
    for i in range(c["num_layers"]):
        attention, forward = (f"encoder.block.{i}.layer.{k}" for k in (0, 1))
        h = norm(x, f"{attention}.layer_norm")
        q, k, v = (dense(f"{attention}.SelfAttention.{name}", h) for name in "qkv")
        mixed = _layers.attend(q, k, v, bias, c["num_heads"], 1.0)
        x = x + dense(f"{attention}.SelfAttention.o", mixed)
        h = norm(x, f"{forward}.layer_norm")
        into = f"{forward}.DenseReluDense.wi"
        if f"{into}.weight" in tensors:
            h = act(dense(into, h))
        else:
            h = act(dense(f"{into}_0", h)) * dense(f"{into}_1", h)
        x = x + dense(f"{forward}.DenseReluDense.wo", h)
    return np.where(present[..., None], norm(x, "encoder.final_layer_norm"), 0.0)
