"""The contract of a medium: what kind of data the arrays of a data set represent.

It is used to show examples and to write them to files. Models see arrays of any shape.
"""

from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Medium(Protocol):
    """Images, videos, signals, ...

    Attributes:
        name: noun for an example: `image`.
        shapes: shapes of an example, for messages: `(height, width, 1 or 3)`.
        layout: shapes of an array of examples, for messages: `[N,H,W,C] with 1 or 3 channels`.
        file: noun for a file with an example: `picture`.
        time: axis of an example that is time, or None.
        kinds: kinds of files that `keep` can write; empty if there is no choice.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def shapes(self) -> str: ...  # noqa: D102

    @property
    def layout(self) -> str: ...  # noqa: D102

    @property
    def file(self) -> str: ...  # noqa: D102

    @property
    def time(self) -> int | None: ...  # noqa: D102

    @property
    def kinds(self) -> tuple[str, ...]: ...  # noqa: D102

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether examples may have this shape."""
        ...

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """One still image for each example: levels 0 .. levels-1, `[N, h, w, 1 or 3]`."""
        ...

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """Reads one example from a user's file and converts it to `shape` and `levels`, uint8.

        Raises:
            Damaged: the file cannot be decoded or converted.
        """
        ...

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Writes files that a contact sheet of stills cannot replace, such as animations.

        Args:
            path: path of the files without an ending.
            examples: the examples.
            levels: number of levels.
            kind: one of `kinds`; empty chooses one that suits the examples.

        Returns:
            The files; empty if the sheet shows everything.
        """
        ...
