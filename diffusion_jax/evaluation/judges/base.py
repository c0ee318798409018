"""The contract of a judge: for each attribute, does an image show what its text says?"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from diffusion_jax.errors import ConfigError


@runtime_checkable
class Judge(Protocol):
    """An independent classifier, fitted to real images and never used for guidance.

    Attributes:
        names: names of the attributes that it judges, such as colour.
    """

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102

    def right(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """The share of each attribute that is right, `[N, A]`; NaN if the text does not mention it.

        Args:
            images: integer levels, `[N, H, W, C]`.
            texts: one text for each image.

        Raises:
            ConfigError: a text cannot be parsed, or the images have the wrong shape.
        """
        ...


def check(judge: Judge, image: np.ndarray, texts: Sequence[str]) -> None:
    """Tries a judge before anything is sampled.

    Args:
        judge: the judge.
        image: a real image, `[1, H, W, C]`.
        texts: all texts that it will judge.

    Raises:
        ConfigError: it cannot judge these images or texts.
    """
    distinct = list(dict.fromkeys(texts))
    right = judge.right(np.repeat(image, len(distinct), axis=0), distinct)
    if np.isnan(right).all():
        raise ConfigError(
            f"judge {type(judge).__name__.lower()}(): none of the {len(distinct)} texts, such as "
            f"{distinct[0]!r}, mentions a {' or '.join(judge.names)}"
        )


def shares(names: Sequence[str], right: np.ndarray) -> dict[str, dict[str, float]]:
    """Means and standard errors of `Judge.right`, and of images in which every attribute is right.

    Images whose text the judge cannot assess are skipped.
    """
    whole = (np.nanmin(right, axis=1, initial=1.0) >= 1.0).astype(float)
    whole[np.isnan(right).all(axis=1)] = np.nan
    columns = dict(zip(names, right.T, strict=True)) | {"all": whole}
    results = {}
    for name, values in columns.items():
        judged = values[~np.isnan(values)]
        if len(judged):
            error = judged.std() / math.sqrt(len(judged))
            results[name] = {"value": float(judged.mean()), "standard_error": float(error),
                             "images": len(judged)}  # fmt: skip
    return results
