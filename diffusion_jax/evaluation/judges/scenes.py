"""Does a scene show what its text says? Checks colour, digit, place and number of objects.

A quarter of the scene holds an object if it is lit. Its colour is the nearest of six channel masks,
and its digit is classified by an SVM fitted to real training digits. Objects with a place in the
text are looked for in that quarter, others in reading order. A place is right if its quarter is lit
and there are no more lit quarters than objects in the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _grammar as grammar
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.judges import _svm

_LIT = 1.0 / 16.0  # threshold for the mean of the brightest channel; digits have about 1/4


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
                f"judge scenes(): images are {images.shape[1:]}, but scenes of {self.of.name} "
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
        """Replaces the attributes of `text` by those that `said` mentions (for a moved object)."""
        original, changes = _read([text, said])
        if len(original) != len(changes):
            return text
        return grammar.say([c if c >= 0 else o for o, c in zip(original, changes, strict=True)])


def _read(texts: Sequence[str]) -> list[list[int]]:
    try:
        return [grammar.parse(t) for t in texts]
    except ValueError as e:
        raise ConfigError(f"judge scenes(): {e}; captions look like 'a red three, top left'") from e


def _right(seen: np.ndarray, mentioned: list[int]) -> np.ndarray:
    """Shares of right colours, digits and places in one scene, and whether the count is right."""
    lit = np.flatnonzero(seen[:, 0] >= 0)
    objects = np.reshape(mentioned, (-1, 3))
    colours: list[float] = []
    digits: list[float] = []
    places: list[float] = []
    for k, (colour, digit, place) in enumerate(objects.tolist()):
        in_order = int(lit[k]) if k < len(lit) else -1
        quarter = place if place >= 0 else in_order
        seen_colour, seen_digit = seen[quarter] if quarter >= 0 else (-1, -1)
        if colour >= 0:
            colours.append(float(seen_colour == colour))
        if digit >= 0:
            digits.append(float(seen_digit == digit))
        if place >= 0:
            places.append(float(seen_colour >= 0 and len(lit) <= len(objects)))
    means = [np.mean(v) if v else np.nan for v in (colours, digits, places)]
    return np.asarray([*means, float(len(lit) == len(objects))])


def make(of: Source | None = None) -> Scenes:
    """A judge of scenes.

    Args:
        of: digits that the scenes are made of; None means `digits()`.
    """
    from diffusion_jax import registry

    return Scenes(of if of is not None else registry.build("data", "digits()"))
