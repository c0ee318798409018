"""Does an icon have the sign that its text names, such as a plus or a pencil?

Ridge regression on pixels, fitted to training images. For concepts that no training image shows it
is right for 96.9% of 130 icons with a sign (17% by chance), and sees a sign in 0.4% of 280 icons
without one.
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
        """The sign of each image as an index of `icons.SIGNS`, `[N]`."""
        if images.shape[1:] != tuple(self.of.shape):
            raise ConfigError(
                f"judge icons(): images are {images.shape[1:]}, but icons {tuple(self.of.shape)}"
            )
        return (_rows(images) @ self._weights).argmax(1)

    def right(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """See `base.Judge`; texts that name no sign are judged as `plain`."""
        signs = np.asarray([icons.sign(t) for t in texts])
        same = (self.see(images) == signs).astype(float)
        return np.stack([np.where(rows, same, np.nan) for rows in (signs > 0, signs == 0)], 1)


def _rows(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1) / 127.5 - 1.0
    return np.concatenate([flat, np.ones((len(flat), 1))], 1)


def make(of: Source | None = None, data: Source | None = None) -> Icons:
    """A judge of signs.

    Args:
        of: data set to fit to; None means the run's if that is icons, else `icons()`.
        data: the run's data set. The judge must not be fitted to its test images.

    Raises:
        ConfigError: the run's images do not have 256 levels.
    """
    from diffusion_jax import registry

    if data is not None and data.levels != 256:
        raise ConfigError(
            f"judge icons(): {data.name} has {data.levels} levels, but icons need 256"
        )
    run_data = data if data is not None and data.name == "icons" else None
    return Icons(of or run_data or registry.build("data", "icons()"))
