"""Has an icon the sign that its text names, a plus or a pencil? Ridge regression on its pixels.

It is fitted to training images. Of things that none of these shows it is right of 96.9% of 130 with
a sign, where a guess is right of 17%, and sees one in 0.4% of 280 that have none.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import icons
from diffusion_jax.errors import ConfigError

_RIDGE = 10.0  # added to the squares of pixels in [-1, 1], summed over training images


@dataclass(frozen=True)
class Icons:
    """See the module docstring."""

    of: Source
    names: tuple[str, ...] = ("sign", "plain")

    @functools.cached_property
    def _weights(self) -> np.ndarray:
        split = self.of.split("train")
        assert split.captions is not None
        assert split.captions.attributes is not None
        rows = _rows(np.asarray(split.images))
        shown = np.eye(len(icons.SIGNS))[split.captions.attributes[:, 1]]
        return np.linalg.solve(rows.T @ rows + _RIDGE * np.eye(rows.shape[1]), rows.T @ shown)

    def see(self, images: np.ndarray) -> np.ndarray:
        """The sign of each image, a number of `icons.SIGNS`, `[N]`."""
        if images.shape[1:] != tuple(self.of.shape):
            raise ConfigError(
                f"judge icons(): images are {images.shape[1:]}, icons {tuple(self.of.shape)}"
            )
        return (_rows(images) @ self._weights).argmax(1)

    def right(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """See `base.Judge`; `plain` is of texts that name no sign."""
        said = np.asarray([icons.sign(t) for t in texts])
        same = (self.see(images) == said).astype(float)
        return np.stack([np.where(at, same, np.nan) for at in (said > 0, said == 0)], 1)


def _rows(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1) / 127.5 - 1.0
    return np.concatenate([flat, np.ones((len(flat), 1))], 1)


def make(of: Source | None = None, data: Source | None = None) -> Icons:
    """A judge of signs.

    Args:
        of: whose training images it is fitted to; those of the run if they are icons, else those of
            `icons()`.
        data: of the run, whose test images it must not have seen.

    Raises:
        ConfigError: levels of the run's images are others than those of icons.
    """
    from diffusion_jax import registry

    if data is not None and data.levels != 256:
        raise ConfigError(f"judge icons(): {data.name} has {data.levels} levels, icons have 256")
    own = data if data is not None and data.name == "icons" else None
    return Icons(of or own or registry.build("data", "icons()"))
