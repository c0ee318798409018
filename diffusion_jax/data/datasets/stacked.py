"""Three images of another data set as the channels of one: a distribution with 1,000 modes.

This is Stacked MNIST (Metz et al. 2017) with labels 100 a + 10 b + c for digits a, b, c. The choice
of the three images depends on the seed only.
"""

import numpy as np

from diffusion_jax.allowed import Count, Whole
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.errors import ConfigError


def make(of: Source, size: Count = 26_000, seed: Whole = 0) -> Source:
    """Stacks images with one channel.

    Args:
        of: a data set with classes, such as `digits()` or `mnist()`.
        size: number of training images; the other splits have a tenth of it.
        seed: seed for the choice of images.

    Raises:
        ConfigError: the images have several channels, or the data set has no classes.
    """
    if of.medium != IMAGE or of.shape[-1] != 1 or not of.num_classes:
        raise ConfigError(
            f"stacked(of={of.name}): needs images with one channel and classes, such as digits() "
            "or mnist()"
        )
    (height, width, _), k = of.shape, of.num_classes

    def load(name: str) -> Split:
        part = of.split(name)
        n = size if name == "train" else max(size // 10, 1)
        which = ("train", "valid", "test").index(name)
        rng = np.random.default_rng((seed, which))
        chosen = rng.integers(0, len(part), (n, 3))
        rows = part.take(np.arange(len(part)))
        images = np.moveaxis(rows["image"][..., 0][chosen], 1, -1)
        label = rows["label"][chosen].astype(np.int32) @ np.array([k * k, k, 1], np.int32)
        return Split(
            f"stacked({of.name})/{name}", np.ascontiguousarray(images), label, of.levels, k**3
        )

    names = tuple(f"{a}{b}{c}" for a in range(k) for b in range(k) for c in range(k))
    return Source(
        f"stacked({of.name})", (height, width, 3), of.levels, k**3, load, names,
        attribution=of.attribution,
    )  # fmt: skip
