"""Ranges of numbers, as type annotations for the arguments of plug-ins and for settings.

`def make(width: Count = 128, dropout: Rate = 0.1)` is all that is needed: `registry.build` refuses
other values with a one-line error. Type checkers see `int` and `float`.
"""

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`. NaN is never allowed.

    Attributes:
        low: least value.
        text: completes "it must be"; a text that begins with "a " replaces the name of the type.
        high: greatest value.
        open_low: whether `low` itself is excluded.
        open_high: whether `high` itself is excluded; by default only if it is infinity.
    """

    low: float
    text: str
    high: float = math.inf
    open_low: bool = False
    open_high: bool | None = None

    def holds(self, value: float) -> bool:
        """Whether `value` is allowed."""
        above = value > self.low if self.open_low else value >= self.low
        open_high = self.high == math.inf if self.open_high is None else self.open_high
        return above and (value < self.high if open_high else value <= self.high)


@dataclass(frozen=True)
class AtLeast:
    """Tuples of at least `count` values."""

    count: int

    @property
    def text(self) -> str:
        """Completes "it must be"."""
        return f"{self.count} or more of them"

    def holds(self, value: tuple) -> bool:
        """Whether `value` is allowed."""
        return len(value) >= self.count


COUNT = Range(1, "at least 1")
OR_NONE = Range(0, "at least 0")
ABOVE_ZERO = Range(0, "a finite number above 0", open_low=True)
SEED = Range(0, "from 0 to 2^32 - 1 (a key has no more bits)", high=2**32 - 1)
SHARE = Range(0, "a number from 0 to 1", high=1)
RATE = Range(0, "a number, at least 0 and below 1", high=1, open_high=True)
_ANY = Range(-math.inf, "a number", open_high=False)

Count = Annotated[int, COUNT]
Whole = Annotated[int, OR_NONE]
Seed = Annotated[int, SEED]
Levels = Annotated[int, Range(2, "from 2 to 256", high=256)]
Frames = Annotated[int, Range(2, "at least 2")]
TextLength = Annotated[int, Range(3, "at least 3 (a text has a start and an end)")]
Turns = Annotated[int, Range(-3, "from -3 to 3", high=3)]
Move = Annotated[int, Range(-255, "from -255 to 255", high=255)]
Embedding = Annotated[int, Range(4, "at least 4")]
Counts = Annotated[tuple[Count, ...], AtLeast(1)]

Finite = Annotated[float, Range(-math.inf, "a finite number", open_low=True)]
Number = Annotated[float, _ANY]
Positive = Annotated[float, ABOVE_ZERO]
PositiveOrInfinite = Annotated[float, Range(0, "a number above 0", open_low=True, open_high=False)]
NotNegative = Annotated[float, Range(0, "a finite number, at least 0")]
Share = Annotated[float, SHARE]
Part = Annotated[float, Range(0, "a number above 0, at most 1", high=1, open_low=True)]
Rate = Annotated[float, RATE]
Momentum = Annotated[
    float,
    Range(-1, "a number between -1 and 1, both excluded", high=1, open_low=True, open_high=True),
]
