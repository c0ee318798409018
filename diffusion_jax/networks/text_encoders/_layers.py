"""Layers of pretrained text networks in NumPy, for texts that are encoded once."""

import math
from collections.abc import Callable, Mapping

import numpy as np

MASKED = -1e30  # bias of masked logits: finite, for rows in which everything is masked


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(x)


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _quick_gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1.0 + np.tanh(0.5 * 1.702 * x))  # x sigmoid(1.702 x), without overflow


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": _gelu, "gelu_new": _gelu_tanh, "quick_gelu": _quick_gelu, "relu": _relu,
}  # fmt: skip


def layer_norm(
    tensors: Mapping[str, np.ndarray], name: str, x: np.ndarray, eps: float
) -> np.ndarray:
    """`x` normalised to mean 0 and variance 1, times `name.weight`, plus `name.bias`."""
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + eps)
    return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def dense(tensors: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """`x` times `name.weight`, stored `[out, in]`, plus `name.bias` if there is one."""
    out = x @ tensors[f"{name}.weight"].T
    return out + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else out


def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray, heads: int, scale: float
) -> np.ndarray:
    """Multi-head attention `[B, N, C]`; `bias` broadcasts to the logits `[B, heads, N, N]`."""
    q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
    logits = np.einsum("bqhc,bkhc->bhqk", q, k, optimize=True) * scale + bias
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhc->bqhc", p, v, optimize=True)
    return mixed.reshape(*mixed.shape[:2], -1)
