"""Checks the data set that another one is derived from."""

from typing import Any

from diffusion_jax.data.base import Source
from diffusion_jax.data.media.base import Medium
from diffusion_jax.errors import DataError


def check_medium(who: str, of: Any, *media: Medium, example: str = "mnist()") -> None:
    """Checks that `of` is a data set of one of these media.

    The shape is not enough, because a text `[1, L, 1]` could be taken for an image.

    Args:
        who: the plug-in and its argument, such as `"moving: of"`, for messages.
        of: the value of the argument.
        media: allowed media.
        example: a valid data set, for messages.

    Raises:
        DataError: it is not.
    """
    if isinstance(of, Source) and of.medium in media:
        return
    allowed = " or ".join(f"{m.name}s" for m in media)
    message = f"must be a data set of {allowed}, such as {example}"
    if isinstance(of, Source):
        raise DataError(f"{who}={of.name} {message}; it has {of.medium.name}s")
    raise DataError(f"{who}={of!r} {message}")
