"""MNIST, 28x28, 256 grey levels (for discrete likelihoods; neither binarised nor dequantised)."""

from diffusion_jax.allowed import Whole
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _prepared


def make(data_dir: str = "", holdout: Whole = 5000) -> Source:
    """MNIST as prepared by TFDS; the last `holdout` training images become `valid`."""
    classes = tuple("0123456789")
    return _prepared.source("mnist", "mnist", (28, 28, 1), 10, data_dir, holdout, classes=classes)
