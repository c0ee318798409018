"""Does the image show the class that its text names? An SVM fitted to real training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import class_captions
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.judges import _svm


@dataclass(frozen=True)
class Names:
    """See the module docstring."""

    of: Source
    table: tuple[str, ...]
    names: tuple[str, ...] = ("class",)

    def right(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """See `base.Judge`."""
        if images.shape[1:] != tuple(self.of.shape):
            raise ConfigError(
                f"names: images are {images.shape[1:]}, but those of {self.of.name} {self.of.shape}"
            )
        unknown = [t for t in texts if t not in self.table]
        if unknown:
            raise ConfigError(f"names: {unknown[0]!r} is not a class of {self.of.name}")
        named = np.asarray([self.table.index(t) for t in texts])
        return (_svm.classes(self.of, images) == named)[:, None].astype(float)


def make(of: Source | None = None) -> Names:
    """A judge of class names.

    Args:
        of: data set with classes; None means `digits()`.
    """
    from diffusion_jax import registry

    source = of if of is not None else registry.build("data", "digits()")
    captions = class_captions.make(source).split("train").captions
    assert captions is not None
    return Names(source, captions.table)
