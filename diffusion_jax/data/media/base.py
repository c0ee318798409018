"""The contract of a medium: what the examples of a data set are, for whoever shows or files them.

Models see arrays of any shape; a data set says by its medium what those arrays are.
"""

from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Medium(Protocol):
    """Images, videos, signals, ...

    Attributes:
        name: of one example: `image`.
        shapes: which shapes examples may have, for messages: `(height, width, 1 or 3)`.
        layout: the same of an array of examples: `[N,H,W,C] with 1 or 3 channels`.
        file: what a file of one is called: `picture`.
        time: the axis of an example along which it goes on in time; None without.
        kinds: of files that `keep` may be asked for; empty where there is no choice.
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
        """Whether examples may have that shape."""
        ...

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """One picture for each example: levels 0 .. levels-1, `[N, h, w, 1 or 3]`."""
        ...

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """One example from a user's file, brought to this shape and these levels, uint8.

        Raises:
            Damaged: the file cannot be decoded, or not be brought there.
        """
        ...

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Writes what a sheet of stills cannot show, a film say, by the name `path` with endings.

        `kind` is one of `kinds`, or empty for what suits the examples.

        Returns:
            The files; none where the sheet shows everything.
        """
        ...
