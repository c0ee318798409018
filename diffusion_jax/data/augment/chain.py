"""Several augmentations, one after the other: `chain(dihedral(), permute())`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Chain:
    """Augmentations in a row, each with keys of its own.

    Attributes:
        parts: the augmentations.
    """

    parts: tuple[Augment, ...]

    @property
    def size(self) -> int:
        """What all of them tell."""
        return sum(part.size for part in self.parts)

    @property
    def mirrors(self) -> bool:
        """Whether one of them makes mirror images."""
        return self._one("mirrors")

    @property
    def turns(self) -> bool:
        """Whether one of them turns images."""
        return self._one("turns")

    @property
    def recolours(self) -> bool:
        """Whether one of them changes colours."""
        return self._one("recolours")

    def _one(self, name: str) -> bool:
        return any(getattr(part, name, False) for part in self.parts)

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """Images, and what was done, one part's vector after the other's."""
        vectors = []
        for i, part in enumerate(self.parts):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            images, vector = part(own, images)
            vectors.append(vector)
        return images, jnp.concatenate(vectors, axis=1)


def make(*parts: object) -> Augment:
    """Augmentations in a row; they change what is trained on, not what is evaluated.

    Args:
        *parts: for example `flip(), permute()`. They should not overlap as dihedral() and flip()
            do: the network would be told of one image in two ways.

    Raises:
        ConfigError: there are none, or they are not augmentations.
    """
    if not parts or not all(isinstance(p, Augment) for p in parts):
        raise ConfigError(
            "chain takes augmentations, as in chain(flip(), permute()); got "
            f"({', '.join(repr(p) for p in parts)})"
        )
    return Chain(parts)
