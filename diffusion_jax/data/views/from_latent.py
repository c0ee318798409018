"""Whole images, given their latent: what reads images from the latents of another model.

The run is a diffusion of pixels whose network is told `y_0 = z_0 / alpha_0`, one draw of the latent
that an autoencoder gives the image, as a later stage of a cascade is told the smaller image. Its
bound is the reconstruction term `-log P(x | y_0)` of the bound of a model of those latents.
"""

from dataclasses import dataclass

from diffusion_jax.allowed import Finite
from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.types import Array


@dataclass(frozen=True)
class FromLatent:
    """Images as they are; `gamma` is that of `z_0`, None for what the autoencoder declares."""

    gamma: float | None = None
    latent: bool = True
    pyramid: None = None
    halvings: int = 0

    def shape(self, shape: Shape) -> Shape:
        """That of the image."""
        return tuple(shape)

    def given_shape(self, shape: Shape) -> Shape | None:
        """No smaller image."""
        return None

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The images; their latents are the model's to draw."""
        return images, {}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The images."""
        return part


def make(gamma: Finite | None = None) -> FromLatent:
    """The whole image, given its latent.

    Args:
        gamma: -log SNR of the least noise in the latents, that of the model which draws them
            (its `gamma_min`); by default what the autoencoder declares.
    """
    return FromLatent(gamma=gamma)
