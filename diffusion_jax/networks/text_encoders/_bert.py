"""BERT's encoder in NumPy, for texts that are read once: post-LN blocks with exact GELU."""

import math
from collections.abc import Mapping

import numpy as np

_EPS = 1e-12
_NOBODY = -1e30  # finite, for rows that are padding alone


def shapes(c: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The tensors of a model and their shapes, by what its `config.json` says."""
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


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(x)


def hidden(tensors: Mapping[str, np.ndarray], c: Mapping[str, int], ids: np.ndarray) -> np.ndarray:
    """The last hidden states of `ids` `[N, L]`, 0 for padding, which nobody sees: `[N, L, W]`."""
    there = ids > 0

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + _EPS)
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    table = {k: tensors[f"embeddings.{k}_embeddings.weight"] for k in
             ("word", "position", "token_type")}  # fmt: skip
    x = table["word"][ids] + table["position"][: ids.shape[1]] + table["token_type"][0]
    x = norm(x, "embeddings.LayerNorm")
    heads = c["num_attention_heads"]
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        q, k, v = (
            dense(x, f"{layer}.attention.self.{n}").reshape(*ids.shape, heads, -1)
            for n in ("query", "key", "value")
        )
        logits = np.einsum("bqhc,bkhc->bhqk", q, k, optimize=True) / math.sqrt(q.shape[-1])
        logits = np.where(there[:, None, None], logits, _NOBODY)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        mixed = np.einsum("bhqk,bkhc->bqhc", p, v, optimize=True).reshape(x.shape)
        x = norm(x + dense(mixed, f"{layer}.attention.output.dense"),
                 f"{layer}.attention.output.LayerNorm")  # fmt: skip
        h = dense(x, f"{layer}.intermediate.dense")
        h = 0.5 * h * (1.0 + _erf(h / math.sqrt(2.0)))
        x = norm(x + dense(h, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return np.where(there[..., None], x, 0.0)
