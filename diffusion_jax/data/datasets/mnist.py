"""MNIST, 28x28, 256 grey levels (discrete likelihood; not the binarised or dequantised one)."""

from diffusion_jax.allowed import Whole
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _prepared


def make(data_dir: str = "", holdout: Whole = 5000) -> Source:
    """MNIST as prepared by TFDS; `holdout` training images become the `valid` split."""
    classes = tuple("0123456789")
    return _prepared.source("mnist", "mnist", (28, 28, 1), 10, data_dir, holdout, classes=classes)
