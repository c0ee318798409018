"""ImageNet at 64x64: the newer, anti-aliased release of Chrabaszcz et al. (2017).

It is *easier* than the older release (`imagenet64_old`); never compare results between the two. See
`_imagenet`.
"""

from diffusion_jax.allowed import Whole
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _imagenet


def make(data_dir: str = "", holdout: Whole = 10000, path: str = "") -> Source:
    """ImageNet 64x64 as prepared by TFDS, or its published files; 1,000 classes.

    Our `test` is the published validation set.

    Args:
        data_dir: the folder of tensorflow-datasets, with `imagenet_resized/64x64`.
        holdout: number of training images, the last ones, held out as `valid`.
        path: a folder with the published `train_data_batch_1` .. `10` and `val_data` (pickled or
            npz), used instead of TFDS; relative to `data_dir` if that is set.
    """
    return _imagenet.make("new", 64, data_dir, holdout, path)
