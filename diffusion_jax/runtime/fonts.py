"""The font for texts in pictures, which covers many alphabets; Pillow's default font is ASCII."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


@functools.cache
def dejavu(height: int, mono: bool = False) -> "FreeTypeFont":
    """DejaVu Sans from matplotlib, `height` pixels high; `mono` for the monospaced variant."""
    import matplotlib
    from PIL import ImageFont

    place = (
        Path(matplotlib.get_data_path())
        / "fonts"
        / "ttf"
        / ("DejaVuSansMono.ttf" if mono else "DejaVuSans.ttf")
    )
    return ImageFont.truetype(place, height)
