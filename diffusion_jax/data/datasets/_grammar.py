"""The grammar of captions of `scenes`: from attributes to text, and back."""

import re
from collections.abc import Sequence

COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan")
MASKS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLACES = ("top left", "top right", "bottom left", "bottom right")
FORMS = 3

_PLACE = "|".join(PLACES)
_OBJECT = re.compile(
    rf"(?:there is )?(?:(?P<before>{_PLACE}): )?an? (?:(?P<colour>{'|'.join(COLOURS)}) )?"
    rf"(?P<digit>{'|'.join(DIGITS)}|digit)(?:(?:, | at the )(?P<after>{_PLACE}))?"
)


def _object(colour: int, digit: int, place: int, form: int) -> str:
    noun = DIGITS[digit] if digit >= 0 else "digit"
    noun = f"{COLOURS[colour]} {noun}" if colour >= 0 else noun
    noun = f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
    if place < 0:
        return f"there is {noun}" if form == 2 else noun
    where = PLACES[place]
    return (f"{noun}, {where}", f"{where}: {noun}", f"there is {noun} at the {where}")[form]


def say(values: Sequence[int], objects: int | None = None, form: int = 0) -> str:
    """Renders a caption.

    Args:
        values: colour, digit and place of each object, in sequence; negative: not mentioned.
        objects: number of objects; None counts up to the last one that is not all -1 (at least 1).
        form: wording, 0 .. FORMS - 1.
    """
    each = [tuple(values[i : i + 3]) for i in range(0, len(values), 3)]
    if objects is None:
        present = [i for i, one in enumerate(each) if set(one) != {-1}]
        objects = max(present, default=0) + 1
    return ", and ".join(_object(*one, form) for one in each[:objects])


def parse(text: str) -> list[int]:
    """The inverse of `say`; raises ValueError for other texts."""
    values: list[int] = []
    for part in text.split(", and "):
        m = _OBJECT.fullmatch(part)
        if m is None:
            raise ValueError(f"{part!r} is not a caption of these scenes")
        place = m["before"] or m["after"]
        values += [
            COLOURS.index(m["colour"]) if m["colour"] else -1,
            DIGITS.index(m["digit"]) if m["digit"] != "digit" else -1,
            PLACES.index(place) if place else -1,
        ]
    return values
