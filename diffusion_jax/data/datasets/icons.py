"""Fugue icons: 3,570 icons of 16x16 pixels with their names, from an installed package.

`pip install --no-deps fugue-icons` (its one dependency no longer exists). The icons are by Yusuke
Kamiyamane, CC BY 3.0. 194 concepts are drawn plain and with each of five signs: `cup`, `cup with
plus`.
"""

import functools
import hashlib
import json

import numpy as np

from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _drawings, _installed

SIGNS = ("", "arrow", "exclamation", "minus", "pencil", "plus")
_INSTALL = "pip install --no-deps fugue-icons==3.5.6"
_SHA256 = "a15f75c96a9210c975a07033e37fd2c8d9317e04515267878143646d455528c2"
_SIZE = 16
_BY = (
    "Icons: Fugue, (c) Yusuke Kamiyamane, CC BY 3.0, https://creativecommons.org/licenses/by/3.0/."
)


def say(plain: str, variant: int) -> str:
    """The name of a concept with a sign; 0 is plain, -1 does not mention a sign."""
    sign = f"with {SIGNS[variant]}" if variant > 0 else ""
    return f"{plain} {sign}".strip()


def sign(text: str) -> int:
    """The sign in a name, an index of `SIGNS`; 0 for none."""
    last = text.lower().rpartition(" with ")[2]
    return SIGNS.index(last) if " with " in text.lower() and last in SIGNS else 0


def _words(name: str) -> str:
    return name.replace("--", " with ").replace("-", " ")


@functools.lru_cache(maxsize=1)
def _read() -> list[_drawings.Drawing]:
    from PIL import Image

    where = _installed.folder("fugue_icons", "icons()", _INSTALL) / "static"
    sheet, table = (where / f"fugue-icons.{kind}" for kind in ("png", "json"))
    digest = hashlib.sha256(sheet.read_bytes() + table.read_bytes()).hexdigest()
    _drawings.check_digest(digest, _SHA256, "icons()", _INSTALL)
    pixels = _drawings.on_white(np.asarray(Image.open(sheet).convert("RGBA")))
    number: dict[str, int] = {}
    drawings = []
    for name, (x, y) in sorted(json.loads(table.read_text("utf-8")).items()):
        thing, _, sign = name.partition("--")
        variant = SIGNS.index(sign) if sign in SIGNS else 0
        concept = thing if sign in SIGNS else name
        drawings.append(_drawings.Drawing(
            name, number.setdefault(concept, len(number)), variant, (_words(name),),
            pixels[y : y + _SIZE, x : x + _SIZE],
        ))  # fmt: skip
    return drawings


def make(split: str = "combination") -> Source:
    """Icons with names, 256 levels on white.

    Args:
        split: what the test set holds. `"combination"`: one sign of each concept that has several.
            `"concept"`: concepts that are not in training at all. `"words"`: icons with a word in
            their name that no training name has. `"random"`: random icons.

    Raises:
        DataError: the package is not installed, or has another version.
    """
    _installed.folder("fugue_icons", "icons()", _INSTALL)
    return _drawings.source("icons", _SIZE, split, ("thing", "sign"), _read, say, _BY)
