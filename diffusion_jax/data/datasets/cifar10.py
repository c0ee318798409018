"""CIFAR-10, 32x32x3, 256 levels; read by `_prepared.py`."""

from diffusion_jax.allowed import Whole
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _prepared

_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def make(data_dir: str = "", holdout: Whole = 5000) -> Source:
    """CIFAR-10 as prepared by TFDS; the last `holdout` training images become `valid`."""
    return _prepared.source(
        "cifar10", "cifar10", (32, 32, 3), 10, data_dir, holdout, classes=_CLASSES
    )
