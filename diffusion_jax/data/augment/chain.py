"""Several augmentations in sequence: `chain(dihedral(), permute())`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.data.augment.base import Augment
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array


@dataclass(frozen=True)
class Chain:
    """Augmentations in sequence, each with its own keys."""

    parts: tuple[Augment, ...]

    @property
    def size(self) -> int:
        """The sum of the sizes."""
        return sum(part.size for part in self.parts)

    @property
    def mirrors(self) -> bool:
        """Whether one of them makes mirror images."""
        return self._any("mirrors")

    @property
    def turns(self) -> bool:
        """Whether one of them rotates images."""
        return self._any("turns")

    @property
    def recolours(self) -> bool:
        """Whether one of them changes colours."""
        return self._any("recolours")

    def _any(self, name: str) -> bool:
        return any(getattr(part, name, False) for part in self.parts)

    def __call__(self, keys: Array, images: Array) -> tuple[Array, Array]:
        """The images, and the concatenated vectors of all parts."""
        vectors = []
        for i, part in enumerate(self.parts):
            part_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            images, vector = part(part_keys, images)
            vectors.append(vector)
        return images, jnp.concatenate(vectors, axis=1)


def make(*parts: object) -> Augment:
    """Several augmentations in sequence, used in training only.

    Args:
        *parts: augmentations, such as `flip(), permute()`. They should not overlap, as `dihedral()`
            and `flip()` do: the same image would then have two different descriptions.

    Raises:
        ConfigError: there are no parts, or a part is not an augmentation.
    """
    if not parts or not all(isinstance(p, Augment) for p in parts):
        raise ConfigError(
            "chain takes augmentations, as in chain(flip(), permute()); got "
            f"({', '.join(repr(p) for p in parts)})"
        )
    return Chain(parts)
