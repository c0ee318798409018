"""What a data set that is made of another takes."""

from typing import Any

from diffusion_jax.data.base import Source
from diffusion_jax.data.media.base import Medium
from diffusion_jax.errors import DataError


def check_medium(who: str, of: Any, *media: Medium, example: str = "mnist()") -> None:
    """Refuses (`DataError`) what is no data set of one of these media.

    The shape does not tell: a text of letters `[1, L, 1]` would pass for an image.

    Args:
        who: the plug-in and its argument, as in `"moving: of"`; the name follows.
        of: what was given.
        media: what it takes.
        example: a data set that would do.
    """
    if isinstance(of, Source) and of.medium in media:
        return
    wanted = " or ".join(f"{m.name}s" for m in media)
    name, has = (of.name, f"{of.medium.name}s") if isinstance(of, Source) else (repr(of), "none")
    raise DataError(f"{who}={name} must be a data set of {wanted}, such as {example}; it has {has}")
