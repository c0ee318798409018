"""An augmentation that the network is not told about: `hidden(flip())`."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Hidden:
    """The images of another augmentation, with an empty vector.

    Attributes:
        of: the augmentation.
    """

    of: Augment
    size: int = 0

    @property
    def mirrors(self) -> bool:
        """Whether it makes mirror images."""
        return getattr(self.of, "mirrors", False)

    @property
    def turns(self) -> bool:
        """Whether it turns images."""
        return getattr(self.of, "turns", False)

    @property
    def recolours(self) -> bool:
        """Whether it changes colours."""
        return getattr(self.of, "recolours", False)

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Images, and empty vectors."""
        return self.of(keys, images)[0], jnp.zeros((images.shape[0], 0))


def make(of: object) -> Augment:
    """An augmentation kept secret: the model learns the distribution of all the variants.

    Mirroring is usually trained so (DDPM and its successors). Bits/dim of untouched images remain a
    valid bound; of an ideal model they are worse by up to log2(number of variants) bits an *image*.

    Args:
        of: the augmentation, for example `flip()`.

    Raises:
        ConfigError: `of` is not an augmentation.
    """
    if not isinstance(of, Augment):
        raise ConfigError(f"hidden takes an augmentation, as in hidden(flip()); got {of!r}")
    return Hidden(of)
