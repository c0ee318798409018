"""The contract of a data augmentation, applied to uint8 images inside the training step.

An augmentation changes only the distribution that is trained on; evaluation uses original images.
The network is conditioned on how an image was transformed, where the zero vector means "not
augmented", so original images are evaluated under the distribution learned for them. With
`hidden` the network is not given this vector. It then models the mixture of all variants, which
costs bits/dim on original images; the bound remains valid.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_jax.types import Array


@runtime_checkable
class Augment(Protocol):
    """Random transformations of images.

    Attributes:
        size: length of the vector that describes the transformation to the network; 0 for none.

    An augmentation whose images may contradict their captions says so: `mirrors = True` if it makes
    mirror images, `turns = True` for rotated images, `recolours = True` for changed colours.
    """

    size: int

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Transforms `images` `[B, H, W, C]`, with one key per example.

        Returns:
            The images, and vectors `[B, size]` that describe the transformations.
        """


_MADE = {
    "mirrors": "mirror images",
    "turns": "turned images",
    "recolours": "images of other colours",
}


def makes(augment: object) -> str:
    """A phrase for the images of an augmentation that may contradict captions; empty for none."""
    return " and ".join(what for name, what in _MADE.items() if getattr(augment, name, False))


def flat(images: Array) -> Array:
    """Turns frames into channels, `[B, H, W, T C]`, so that a video is transformed as a whole.

    Images `[B, H, W, C]` are returned unchanged.
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
    """One of 0 .. count-1 for each key, uniformly: int32 `[B]`."""
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(keys)


def one_hot(which: Array, count: int) -> Array:
    """One-hot vectors `[B, count - 1]` of choices; choice 0, the identity, is the zero vector."""
    return jax.nn.one_hot(which, count, dtype=jnp.float32)[:, 1:]
