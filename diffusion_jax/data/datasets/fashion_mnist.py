"""Fashion-MNIST, 28x28, 256 grey levels: the usual out-of-distribution set for MNIST."""

from diffusion_jax.allowed import Whole
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _prepared

_CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
)  # fmt: skip


def make(data_dir: str = "", holdout: Whole = 5000) -> Source:
    """Fashion-MNIST as prepared by TFDS; the last `holdout` training images become `valid`."""
    return _prepared.source(
        "fashion_mnist", "fashion_mnist", (28, 28, 1), 10, data_dir, holdout, classes=_CLASSES
    )
