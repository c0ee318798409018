"""The 8x8 handwritten digits included in scikit-learn: real data without a download.

1,797 images with 17 grey levels (UCI "Optical recognition of handwritten digits", the test part).
The original order is by writer. A fixed permutation shuffles them before the split into 1,400
train, 100 valid and 297 test images.
"""

import functools

import numpy as np

from diffusion_jax.allowed import Whole
from diffusion_jax.data.base import Source, Split, hold_out

_TEST = 297


@functools.lru_cache(maxsize=1)
def _arrays() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # scipy takes a second to import

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    return bunch.images[order, :, :, None].astype(np.uint8), bunch.target[order].astype(np.int32)


def make(holdout: Whole = 100) -> Source:
    """The digits; the last `holdout` training images become `valid`."""

    def load(split: str) -> Split:
        images, labels = _arrays()
        if split == "test":
            images, labels = images[-_TEST:], labels[-_TEST:]
        else:
            images, labels = hold_out(split, images[:-_TEST], labels[:-_TEST], holdout)
        return Split(f"digits/{split}", images, labels, levels=17, num_classes=10)

    return Source("digits", (8, 8, 1), 17, 10, load, tuple("0123456789"))
