"""The contract of a data augmentation, applied to uint8 images inside the training step.

An augmentation changes the distribution that is trained on, and nothing else: evaluation is on
untouched images. The network is told how an image was transformed, so that the likelihood of
untouched images is that of the distribution the model learned for them: the zero vector means "not
augmented". (`hidden` keeps it secret: the one distribution is then spread over all the variants,
and the bits/dim of untouched images, still a valid bound, pay for that.)
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_jax.types import Array


@runtime_checkable
class Augment(Protocol):
    """Random transformations of images.

    Attributes:
        size: length of the vector that tells the network what was done; 0 to tell nothing.

    One that makes mirror images has `mirrors = True`: captions may not be true of those.
    """

    size: int

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Transforms `images` `[B,H,W,C]` with one key per example; also returns `[B, size]`."""


def choices(keys: Array, count: int) -> Array:
    """One of 0 .. count-1 per key, each equally likely: int32 `[B]`."""
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys)


def told(which: Array, count: int) -> Array:
    """One-hot vectors `[B, count - 1]` of choices, without the entry of choice 0, the identity."""
    return jax.nn.one_hot(which, count, dtype=jnp.float32)[:, 1:]
