"""Does a scene show what its text says? Which quarters are lit, in which colour, which digit.

Colours are the nearest of six masks of the channels, digits are read by a machine fitted to real
training digits. Objects that a text gives a place are looked for there, others in reading order. A
place is right if its quarter is lit and no more quarters are than the text has objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _grammar as grammar
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.judges import _svm

_LIT = 1.0 / 16.0  # mean of the brightest channel, as a share of white: digits have a quarter


@dataclass(frozen=True)
class Scenes:
    """See the module docstring."""

    of: Source
    names: tuple[str, ...] = ("colour", "digit", "place", "count")

    def see(self, images: np.ndarray) -> np.ndarray:
        """Colour and digit in each quarter, int `[N, 4, 2]`; -1 where it is dark."""
        height, width, _ = self.of.shape
        if images.shape[1:] != (2 * height, 2 * width, 3):
            raise ConfigError(
                f"judge scenes(): images are {images.shape[1:]}, scenes of {self.of.name} "
                f"{(2 * height, 2 * width, 3)}"
            )
        masks = np.asarray(grammar.MASKS, float)
        parts = images.reshape(-1, 2, height, 2, width, 3).transpose(0, 1, 3, 2, 4, 5)
        parts = parts.reshape(-1, height, width, 3).astype(float) / (self.of.levels - 1)
        means = parts.mean((1, 2))
        lit = means.max(1) > _LIT
        scaled = means / np.maximum(means.max(1, keepdims=True), 1e-9)
        colour = np.square(scaled[:, None] - masks).sum(-1).argmin(1)
        weight = masks[colour][:, None, None]
        grey = (parts * weight).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
        digit = _svm.classes(self.of, grey * (self.of.levels - 1))
        return np.where(lit[:, None], np.stack([colour, digit], 1), -1).reshape(-1, 4, 2)

    def right(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """See `base.Judge`."""
        return np.stack(
            [_right(s, t) for s, t in zip(self.see(images), _read(texts), strict=True)]
        )  # fmt: skip

    def instead(self, text: str, said: str) -> str:
        """A text with what another one says in place of its own: of a thing that has been moved."""
        mine, other = _read([text, said])
        if len(mine) != len(other):
            return text
        return grammar.say([o if o >= 0 else m for m, o in zip(mine, other, strict=True)])


def _read(texts: Sequence[str]) -> list[list[int]]:
    try:
        return [grammar.parse(t) for t in texts]
    except ValueError as e:
        raise ConfigError(f"judge scenes(): {e}; it reads such as 'a red three, top left'") from e


def _right(seen: np.ndarray, said: list[int]) -> np.ndarray:
    """Shares of right colours, digits, places and count in one scene."""
    lit = np.flatnonzero(seen[:, 0] >= 0)
    wanted = np.reshape(said, (-1, 3))
    found: list[list[float]] = [[], [], []]
    for k, (colour, digit, place) in enumerate(wanted.tolist()):
        at = place if place >= 0 else (int(lit[k]) if k < len(lit) else -1)
        here = seen[at] if at >= 0 else np.full(2, -1)
        if place >= 0:
            found[2].append(float(here[0] >= 0 and len(lit) <= len(wanted)))
        for respect, value in ((0, colour), (1, digit)):
            if value >= 0:
                found[respect].append(float(here[respect] == value))
    means = [np.mean(f) if f else np.nan for f in found]
    return np.asarray([*means, float(len(lit) == len(wanted))])


def make(of: Source | None = None) -> Scenes:
    """A judge of scenes.

    Args:
        of: the digits they are made of; `digits()` if None.
    """
    from diffusion_jax import registry

    return Scenes(of if of is not None else registry.build("data", "digits()"))
