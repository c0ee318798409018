"""What a CLIP sees in the source: what the edits of an unCLIP share."""

import numpy as np

from diffusion_jax.data import vectors
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.edits.base import Embedder, Inputs


def need_embedder(name: str, inputs: Inputs) -> Embedder:
    """The CLIP; `ConfigError` for a run that is told nothing of what it sees."""
    if inputs.embedder is None:
        raise ConfigError(
            f"{name} changes what a CLIP sees in an image: it takes a decoder, a run with "
            "--config.embedding=runs/clip"
        )
    return inputs.embedder


def slerp(name: str, a: np.ndarray, b: np.ndarray, theta: np.ndarray | float) -> np.ndarray:
    """Unit vectors on the way from `a` to `b`; `ConfigError` where these are opposite."""
    try:
        return vectors.slerp(a, b, theta)
    except ValueError as e:
        raise ConfigError(f"{name}: {e}") from e


def norm(v: np.ndarray) -> np.ndarray:
    """Lengths of vectors `[N, D]`, `[N, 1]`."""
    return np.linalg.norm(v, axis=-1, keepdims=True)
