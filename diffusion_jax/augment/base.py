"""The contract of a data augmentation, applied to uint8 images inside the training step.

The network is told how an image was transformed, so that the likelihood of untouched images is
what it says it is: the zero vector means "not augmented".
"""

from typing import Protocol, runtime_checkable

from diffusion_jax.types import Array


@runtime_checkable
class Augment(Protocol):
    """Random transformations of images.

    Attributes:
        size: length of the vector that tells the network what was done; 0 to tell nothing.
    """

    size: int

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Transforms `images` `[B,H,W,C]` with one key per example; also returns `[B, size]`."""
