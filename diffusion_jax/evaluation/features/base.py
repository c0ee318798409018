"""The contract of a feature space: a function of integer images, to compare samples with data."""

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
        name: short name, for file names and records.
        size: number of features, F.
        apply: pure function `(params, images) -> [B, F]` float32; images are integers
            `[B, H, W, C]`.
        digest: SHA-256 of everything that determines the values, including weights.
        params: weights of `apply`.
        source: description of the features, for records.
    """

    name: str
    size: int
    apply: Callable[[Params, Array], Array]
    digest: str
    params: Params = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)


def digest(description: str, params: Params | None = None) -> str:
    """SHA-256 over a description and all weights, in the order of their names."""
    sha = hashlib.sha256(description.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params or {}):
        array = np.ascontiguousarray(jax.device_get(leaf))
        sha.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
