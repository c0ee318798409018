"""ImageNet at 32x32: the anti-aliased release of Chrabaszcz et al. (2017).

About 0.25 bits/dim *easier* than the older van den Oord release: never compare across the two.
"""

from diffusion_jax.data import _prepared
from diffusion_jax.data.base import Source


def make(data_dir: str = "", holdout: int = 10000) -> Source:
    """ImageNet 32x32 as prepared by TFDS; its validation split is our test split."""
    return _prepared.source(
        "imagenet32", "imagenet_resized/32x32", (32, 32, 3), 1000, data_dir, holdout,
        test="validation",
    )  # fmt: skip
