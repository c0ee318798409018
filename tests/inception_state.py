"""A PyTorch-style state dict of Inception-v3 with random weights, the same everywhere."""

import functools

import numpy as np

from diffusion_jax.evaluation.features import inception

TORCH = {v: k for k, v in inception._LEAVES.items()}


def random_state() -> dict[str, np.ndarray]:
    """Weights under which activations neither die nor blow up."""
    return dict(_drawn())


@functools.lru_cache(maxsize=1)
def _drawn() -> dict[str, np.ndarray]:
    rng = np.random.RandomState(0)
    state = {}
    for path, shape in sorted(inception._paths(inception.shapes())):
        collection, *block, layer, leaf = path
        name = ".".join([*block, TORCH[collection, layer, leaf]])
        if leaf == "kernel":
            array = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[:3]))
            array = array.transpose(3, 2, 0, 1)
        else:
            low, high = (0.5, 1.5) if leaf in ("scale", "var") else (-0.1, 0.1)
            array = rng.uniform(low, high, shape)
        state[name] = array.astype(np.float32)
    return state


def image() -> np.ndarray:
    """Two images in [-1, 1] at the network's size."""
    return np.random.RandomState(1).uniform(-1, 1, (2, 299, 299, 3)).astype(np.float32)
