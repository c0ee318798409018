"""An augmentation that does not condition the network: `hidden(flip())`."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Hidden:
    """The images of another augmentation, with empty vectors."""

    of: Augment
    size: int = 0

    @property
    def mirrors(self) -> bool:
        """Whether it makes mirror images."""
        return getattr(self.of, "mirrors", False)

    @property
    def turns(self) -> bool:
        """Whether it rotates images."""
        return getattr(self.of, "turns", False)

    @property
    def recolours(self) -> bool:
        """Whether it changes colours."""
        return getattr(self.of, "recolours", False)

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """The images, and empty vectors."""
        return self.of(keys, images)[0], jnp.zeros((images.shape[0], 0))


def make(of: object) -> Augment:
    """Applies an augmentation without conditioning the network, which models all variants' mixture.

    Mirroring is usually done this way (DDPM and its successors). Bits/dim of original images remain
    a valid bound; even an ideal model loses up to log2(number of variants) bits per *image*.

    Args:
        of: the augmentation, for example `flip()`.

    Raises:
        ConfigError: `of` is not an augmentation.
    """
    if not isinstance(of, Augment):
        raise ConfigError(f"hidden takes an augmentation, as in hidden(flip()); got {of!r}")
    return Hidden(of)
