"""ImageNet at 64x64: the anti-aliased release of Chrabaszcz et al. (2017).

About 0.25 bits/dim *easier* than the older van den Oord release: never compare across the two.
"""

from diffusion_jax.data import _prepared
from diffusion_jax.data.base import Source


def make(data_dir: str = "", holdout: int = 10000) -> Source:
    """ImageNet 64x64 as prepared by TFDS; its validation split is our test split."""
    return _prepared.source(
        "imagenet64", "imagenet_resized/64x64", (64, 64, 3), 1000, data_dir, holdout,
        test="validation",
    )  # fmt: skip
