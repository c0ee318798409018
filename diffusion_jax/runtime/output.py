"""A terminal that is gone, a closed pipe or a full disk takes no result with it."""

import os
import sys
from typing import Any, TextIO, cast


class _Lasting:
    """A stream of text that discards what is written once it cannot be written."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str, /) -> int:
        """Writes or discards `text`; characters that the stream's encoding lacks are escaped."""
        code = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(code, "backslashreplace").decode(code))
        except OSError:
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, or gives it up."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Sends what is still in the stream's buffer, and all that follows, to nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def keep_going() -> None:
    """Makes standard output and standard error such that a failing write never ends the program."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Lasting):
            setattr(sys, name, cast(TextIO, _Lasting(stream)))
