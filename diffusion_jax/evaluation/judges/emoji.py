"""Is a person of the skin tone that its text names? The most frequent of the five colours of tones.

A pixel has a colour if it is within 10 of 255 levels of it in every channel, as flat drawings have
it: right of 99.0% of the 1,649 real ones that name one tone at 24x24, of 96.8% at 18x18 and of
82.3% at 12x12, where lines and skin are averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.datasets import emoji
from diffusion_jax.errors import ConfigError

# Twemoji's own, those of its five swatches (U+1F3FB to U+1F3FF).
COLOURS = ((247, 222, 206), (243, 210, 162), (213, 171, 136), (175, 126, 87), (124, 83, 62))
_NEAR = 10  # levels


@dataclass(frozen=True)
class Emoji:
    """See the module docstring."""

    names: tuple[str, ...] = ("tone",)

    def see(self, images: np.ndarray) -> np.ndarray:
        """The tone of each image, a number of `emoji.TONES`; -1 where no pixel has any, `[N]`."""
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ConfigError(f"judge emoji(): images are {images.shape[1:]}, emoji have 3 colours")
        pixels = images.astype(np.int16)
        counts = [(np.abs(pixels - c).max(-1) <= _NEAR).sum((1, 2)) for c in np.asarray(COLOURS)]
        found = np.stack(counts, 1)
        return np.where(found.max(1) > 0, found.argmax(1), -1)

    def right(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """See `base.Judge`; a text that names no tone, or several, says nothing."""
        said = np.asarray([emoji.tone(t) for t in texts])
        same = (self.see(images) == said).astype(float)
        return np.where(said >= 0, same, np.nan)[:, None]


def make() -> Emoji:
    """A judge of skin tones."""
    return Emoji()
