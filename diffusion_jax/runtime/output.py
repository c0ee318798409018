"""Keeps the program running if its terminal is gone, its pipe closed or the disk full."""

import os
import sys
from typing import Any, TextIO, cast


class _Lasting:
    """A text stream that discards its output once a write has failed."""

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
        """Flushes the stream; if that fails, discards all further output."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Redirects the stream, including its buffer, to the null device."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def keep_going() -> None:
    """Makes failing writes to standard output and standard error harmless."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Lasting):
            setattr(sys, name, cast(TextIO, _Lasting(stream)))
