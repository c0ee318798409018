"""Random shifts: a crop, of the original size, from the image padded by reflection."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Whole
from diffusion_jax.data.augment.base import Augment, as_before, choices, flat
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Crop:
    """Shifts each image by up to `pad` pixels in each direction, uniformly."""

    pad: int
    size: int = 2

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """The images, and their shifts down and right as fractions of `pad`, in [-1, 1]."""
        original, pad = images, self.pad
        images = flat(images)
        shape = images.shape[1:]
        if pad >= min(shape[:2]):
            raise ConfigError(f"crop: pad={pad} must be less than the images' size {shape[:2]}")
        # "reflect" does not repeat the edge, so that the axis of reflection is not visible.
        padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
        start = jnp.stack(
            [choices(k, 2 * pad + 1) for k in jax.vmap(jax.random.split, out_axes=1)(keys)], axis=1
        )

        def cut(image: Array, at: Array) -> Array:
            return jax.lax.dynamic_slice(image, (at[0], at[1], jnp.zeros_like(at[0])), shape)

        shifted = as_before(jax.vmap(cut)(padded, start), original)
        return shifted, (pad - start) / jnp.float32(pad)


def make(pad: Whole = 4) -> Augment:
    """Random shifts, used in training only.

    Args:
        pad: largest shift in pixels, at least 1.

    Raises:
        ConfigError: `pad` is 0.
    """
    if pad < 1:
        raise ConfigError(f"crop: pad={pad} must be at least 1")
    return Crop(pad)
