"""A context manager that closes an object without hiding an earlier error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from absl import logging

from diffusion_jax.errors import short


class _Closable(Protocol):
    def close(self) -> None: ...


_T = TypeVar("_T", bound=_Closable)


@contextmanager
def closing(thing: _T) -> Iterator[_T]:
    """Like `contextlib.closing`, but a failure to close never hides why the run ended.

    Args:
        thing: an object with a `close` method.

    Yields:
        The object.
    """
    try:
        yield thing
    except BaseException:
        try:
            thing.close()
        except Exception as e:
            logging.error("%s could not be closed either: %s", type(thing).__name__, short(e))
        raise
    thing.close()
