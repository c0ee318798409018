"""Shows a few images in a terminal: each character is two pixels, one above the other."""

import math
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_UPPER = "\u2580"  # upper half block: foreground above, background below
_ROWS, _LEAST = 2, 8  # largest number of rows of images; smallest width of an image in characters
_ACROSS = 5  # number of images in a row, if they have to be made smaller


def half_blocks(picture: np.ndarray) -> "Text":
    """A picture as text, with one character for every two pixels.

    Args:
        picture: uint8 `[H, W, 3]`; if H is odd, a black row is added.

    Returns:
        `ceil(H / 2)` lines of `W` characters, 24-bit colours.
    """
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    height, width, _ = picture.shape
    padded = np.concatenate([picture, np.zeros((height % 2, width, 3), np.uint8)])
    out = Text(no_wrap=True)
    for top, bottom in zip(padded[::2], padded[1::2], strict=True):
        if len(out):
            out.append("\n")
        for above, below in zip(top.tolist(), bottom.tolist(), strict=True):
            out.append(_UPPER, Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
    return out


def sheet(images: np.ndarray, levels: int, columns: int, width: int) -> np.ndarray:
    """Tiles as many images as fit on a terminal, with black between them.

    Args:
        images: integers `[N, H, W, C]` with C = 1 or 3, values 0 .. levels - 1.
        levels: number of grey levels.
        columns: largest number of images per row; 0 for no limit.
        width: width of the terminal, in characters.

    Returns:
        uint8 `[H', W', 3]` with `W' <= width`.
    """
    height, wide = images.shape[1:3]
    size = min(wide, width, max(_LEAST, width // _ACROSS - 1))
    across = max(1, min((width + 1) // (size + 1), columns or len(images), len(images)))
    rows = min(_ROWS, math.ceil(len(images) / across))
    tall = max(1, round(height * size / wide))
    canvas = np.zeros((rows * (tall + 1) - 1, across * (size + 1) - 1, 3), np.uint8)
    for i, image in enumerate(images[: rows * across]):
        shown = np.round(image.astype(np.float64) * (255.0 / (levels - 1))).astype(np.uint8)
        shown = _resized(np.broadcast_to(shown, (height, wide, 3)), tall, size)
        y, x = i // across * (tall + 1), i % across * (size + 1)
        canvas[y : y + tall, x : x + size] = shown
    return canvas


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    return np.asarray(
        Image.fromarray(np.array(image)).resize((width, height), Image.Resampling.BOX)
    )


def possible(console: "Console") -> bool:
    """Whether a console is a terminal with colours, and not in continuous integration."""
    if os.environ.get("NO_COLOR") or os.environ.get("CI") or not console.is_terminal:
        return False
    return console.color_system in ("truecolor", "256") and "utf" in console.encoding.lower()


def show(images: np.ndarray, levels: int, columns: int = 0) -> None:
    """Prints a few images, if the terminal can show them.

    Args:
        images: integers `[N, H, W, C]`, values 0 .. levels - 1.
        levels: number of grey levels.
        columns: largest number of images per row; 0 for no limit.
    """
    from rich.console import Console

    console = Console()
    if possible(console) and images.shape[-1] in (1, 3):
        console.print(half_blocks(sheet(images, levels, columns, console.width)))
