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

    One that makes mirror images has `mirrors = True`, turned ones `turns = True`, and images of
    other colours `recolours = True`: captions may not be true of those.
    """

    size: int

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Transforms `images` `[B,H,W,C]` with one key per example; also returns `[B, size]`."""


_MADE = {
    "mirrors": "mirror images",
    "turns": "turned images",
    "recolours": "images of other colours",
}


def makes(augment: object) -> str:
    """What an augmentation makes of which captions may not be true; empty for nothing."""
    return " and ".join(what for name, what in _MADE.items() if getattr(augment, name, False))


def flat(images: Array) -> Array:
    """Frames as channels of one image, so that all of a video change alike: `[B,H,W,T C]`.

    Images `[B,H,W,C]` stay as they are.
    """
    if images.ndim == 4:
        return images
    return jnp.moveaxis(images, 1, 3).reshape(*images.shape[0:1], *images.shape[2:4], -1)


def as_before(images: Array, like: Array) -> Array:
    """The inverse of `flat`."""
    if like.ndim == 4:
        return images
    b, t, height, width, channels = like.shape
    return jnp.moveaxis(images.reshape(b, height, width, t, channels), 3, 1)


def choices(keys: Array, count: int) -> Array:
    """One of 0 .. count-1 per key, each equally likely: int32 `[B]`."""
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys)


def one_hot(which: Array, count: int) -> Array:
    """One-hot vectors `[B, count - 1]` of choices, without the entry of choice 0, the identity."""
    return jax.nn.one_hot(which, count, dtype=jnp.float32)[:, 1:]
