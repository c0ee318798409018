"""Helpers for unCLIP edits, which change the source's CLIP embedding."""

import numpy as np

from diffusion_jax.data import vectors
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.edits.base import Embedder, Inputs


def need_embedder(name: str, inputs: Inputs) -> Embedder:
    """The CLIP; raises `ConfigError` for a run that is not conditioned on CLIP embeddings."""
    if inputs.embedder is None:
        raise ConfigError(
            f"{name} changes the CLIP embedding of an image: it needs an unCLIP decoder, a run "
            "with --config.embedding=runs/clip"
        )
    return inputs.embedder


def slerp(name: str, a: np.ndarray, b: np.ndarray, theta: np.ndarray | float) -> np.ndarray:
    """Unit vectors between `a` and `b`; raises `ConfigError` if these are opposite."""
    try:
        return vectors.slerp(a, b, theta)
    except ValueError as e:
        raise ConfigError(f"{name}: {e}") from e


def norm(v: np.ndarray) -> np.ndarray:
    """Lengths of vectors `[N, D]`, `[N, 1]`."""
    return np.linalg.norm(v, axis=-1, keepdims=True)
