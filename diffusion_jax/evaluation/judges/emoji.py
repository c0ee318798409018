"""Does a person have the skin tone that the text names? Counts pixels of the five tone colours.

The most frequent tone wins. A pixel has a colour if every channel is within 10 of 255 levels, which
suits flat drawings. On the 1,649 real emoji that name one tone the judge is right for 99.0% at
24x24, 96.8% at 18x18, and 82.3% at 12x12, where lines and skin blend.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.datasets import emoji
from diffusion_jax.errors import ConfigError

# The colours of Twemoji's five swatches (U+1F3FB to U+1F3FF).
COLOURS = ((247, 222, 206), (243, 210, 162), (213, 171, 136), (175, 126, 87), (124, 83, 62))
_NEAR = 10  # levels


@dataclass(frozen=True)
class Emoji:
    """See the module docstring."""

    names: tuple[str, ...] = ("tone",)

    def see(self, images: np.ndarray) -> np.ndarray:
        """The tone of each image, `[N]`: an index of `emoji.TONES`, or -1 if no pixel has one."""
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ConfigError(
                f"judge emoji(): images are {images.shape[1:]}, but emoji have 3 colours"
            )
        pixels = images.astype(np.int16)
        near = [(np.abs(pixels - c).max(-1) <= _NEAR).sum((1, 2)) for c in np.asarray(COLOURS)]
        counts = np.stack(near, 1)
        return np.where(counts.max(1) > 0, counts.argmax(1), -1)

    def right(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """See `base.Judge`; texts that name no tone, or several, are not judged."""
        tones = np.asarray([emoji.tone(t) for t in texts])
        same = (self.see(images) == tones).astype(float)
        return np.where(tones >= 0, same, np.nan)[:, None]


def make() -> Emoji:
    """A judge of skin tones."""
    return Emoji()
