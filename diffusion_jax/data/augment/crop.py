"""Shifts: a random crop, of the old size, from the image continued by its reflection."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Whole
from diffusion_jax.data.augment.base import Augment, as_before, choices, flat
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Crop:
    """Each image shifted by up to `pad` pixels each way, all shifts equally likely.

    Attributes:
        pad: pixels.
    """

    pad: int
    size: int = 2

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Images, and their shift down and right as parts of `pad`, in [-1, 1]."""
        every, pad = images, self.pad
        images = flat(images)
        shape = images.shape[1:]
        if pad >= min(shape[:2]):
            raise ConfigError(f"crop: pad={pad} must be less than the images' size {shape[:2]}")
        # The edge itself is not repeated: where pixels are mirrored is then no longer to be seen.
        wide = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        start = jnp.stack(
            [choices(k, 2 * pad + 1) for k in jax.vmap(jax.random.split, out_axes=1)(keys)], axis=1
        )

        def cut(image: Array, at: Array) -> Array:
            return jax.lax.dynamic_slice(image, (at[0], at[1], jnp.zeros_like(at[0])), shape)

        return as_before(jax.vmap(cut)(wide, start), every), (pad - start) / jnp.float32(pad)


def make(pad: Whole = 4) -> Augment:
    """Random shifts; they change what is trained on, not what is evaluated.

    Args:
        pad: largest shift in pixels, at least 1.

    Raises:
        ConfigError: `pad` is not positive.
    """
    if pad < 1:
        raise ConfigError(f"crop: pad={pad} must be at least 1")
    return Crop(pad)
