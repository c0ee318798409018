"""ImageNet at 32x32: the release of van den Oord et al. (2016), the older one.

About 0.25 bits/dim *harder* than the newer release (`imagenet32`), and no longer distributed:
never compare across the two. See `_imagenet`.
"""

from diffusion_jax.allowed import Whole
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _imagenet


def make(data_dir: str = "", holdout: Whole = 10000, path: str = "", workers: Whole = 0) -> Source:
    """The old ImageNet 32x32 as prepared by TFDS, or its published files; no labels.

    Our `test` is the published validation set.

    Args:
        data_dir: the folder of tensorflow-datasets, with `downsampled_imagenet/32x32`.
        holdout: training images kept back as `valid`, the last ones.
        path: a folder with the published `train_32x32/` and `valid_32x32/` of png files,
            read in place of the former; relative to `data_dir` if that is set.
        workers: threads that decode png files; 0 for one per processor.
    """
    return _imagenet.make("old", 32, data_dir, holdout, path, workers)
