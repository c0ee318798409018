"""ImageNet at 64x64: the older release of van den Oord et al. (2016), no longer distributed.

It is *harder* than the newer release (`imagenet64`); never compare results between the two. See
`_imagenet`.
"""

from diffusion_jax.allowed import Whole
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _imagenet


def make(data_dir: str = "", holdout: Whole = 10000, path: str = "", workers: Whole = 0) -> Source:
    """The old ImageNet 64x64 as prepared by TFDS, or its published files; no labels.

    Our `test` is the published validation set.

    Args:
        data_dir: the folder of tensorflow-datasets, with `downsampled_imagenet/64x64`.
        holdout: number of training images, the last ones, held out as `valid`.
        path: a folder with the published folders `train_64x64/` and `valid_64x64/` of png files,
            used instead of TFDS; relative to `data_dir` if that is set.
        workers: threads that decode png files; 0 for one per processor.
    """
    return _imagenet.make("old", 64, data_dir, holdout, path, workers)
