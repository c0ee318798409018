"""The contract of features: a function of 8-bit images in whose space samples meet data."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Features:
    """A feature space.

    Attributes:
        name: short, for file names and records.
        size: number of features F.
        apply: `(params, images) -> [B, F]` float32; images are integers `[B, H, W, C]`. Pure.
        digest: SHA-256 of all that decides the values, weights included.
        params: weights of `apply`.
        source: what they are, for records.
    """

    name: str
    size: int
    apply: Callable[[Params, Array], Array]
    digest: str
    params: Params = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)


def digest(description: str, params: Params | None = None) -> str:
    """SHA-256 over a description and, in the order of their names, all weights."""
    found = hashlib.sha256(description.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params or {}):
        array = np.ascontiguousarray(jax.device_get(leaf))
        found.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
