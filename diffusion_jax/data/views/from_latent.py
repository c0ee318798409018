"""Whole images, given their latent: a diffusion that decodes the latents of another model.

The run is a diffusion of pixels whose network is conditioned on `y_0 = z_0 / alpha_0`, one sample
of the image's latent from an autoencoder, as a later stage of a cascade is conditioned on the
smaller image. Its bound is the reconstruction term `-log P(x | y_0)` in the bound of a model of
those latents.
"""

from dataclasses import dataclass

from diffusion_jax.allowed import Finite
from diffusion_jax.data.pyramids.base import Shape
from diffusion_jax.types import Array


@dataclass(frozen=True)
class FromLatent:
    """Whole images; `gamma` is that of `z_0`, and None means the value the autoencoder declares."""

    gamma: float | None = None
    latent: bool = True
    pyramid: None = None
    halvings: int = 0

    def shape(self, shape: Shape) -> Shape:
        """Shape of the image."""
        return tuple(shape)

    def given_shape(self, shape: Shape) -> Shape | None:
        """None: no smaller image is given."""
        return None

    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """The images; the model samples their latents."""
        return images, {}

    def join(self, part: Array, given: dict[str, Array]) -> Array:
        """The images."""
        return part


def make(gamma: Finite | None = None) -> FromLatent:
    """The whole image, given its latent.

    Args:
        gamma: -log SNR of the least noise in the latents: the `gamma_min` of the model that samples
            them. None means the value that the autoencoder declares.
    """
    return FromLatent(gamma=gamma)
