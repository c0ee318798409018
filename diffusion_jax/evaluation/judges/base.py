"""The contract of a judge: does an image show what its text says, in each respect?"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from diffusion_jax.errors import ConfigError


@runtime_checkable
class Judge(Protocol):
    """A judge: what it knows comes from real images, and no sampler ever followed it.

    Attributes:
        names: of the respects in which it judges.
    """

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102

    def right(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """What share of each respect is right, `[N, A]`, NaN where a text says nothing of it.

        Args:
            images: whole grey levels, `[N, H, W, C]`.
            texts: one for each.

        Raises:
            ConfigError: a text that it cannot read, or images of another shape.
        """
        ...


def check(judge: Judge, image: np.ndarray, texts: Sequence[str]) -> None:
    """Asks a judge once, before anything is drawn: it refuses (`ConfigError`) what it cannot judge.

    Args:
        image: a real one, `[1, H, W, C]`.
        texts: all that it will be asked about.
    """
    distinct = list(dict.fromkeys(texts))
    right = judge.right(np.repeat(image, len(distinct), axis=0), distinct)
    if np.isnan(right).all():
        raise ConfigError(
            f"judge {type(judge).__name__.lower()}(): of all {len(distinct)} texts, such as "
            f"{distinct[0]!r}, none says a {' or '.join(judge.names)}, of which it judges"
        )


def shares(names: Sequence[str], right: np.ndarray) -> dict[str, dict[str, float]]:
    """Means with standard errors of `Judge.right`, and of images in which everything is right.

    Images of whose text nothing is judged do not count.
    """
    whole = (np.nanmin(right, axis=1, initial=1.0) >= 1.0).astype(float)
    whole[np.isnan(right).all(axis=1)] = np.nan
    columns = dict(zip(names, right.T, strict=True)) | {"all": whole}
    found = {}
    for name, values in columns.items():
        said = values[~np.isnan(values)]
        if len(said):
            error = said.std() / math.sqrt(len(said))
            found[name] = {"value": float(said.mean()), "standard_error": float(error),
                           "images": len(said)}  # fmt: skip
    return found
