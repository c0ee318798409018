"""The font that texts are written in, with the letters of all alphabets: Pillow's own has ASCII."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


@functools.cache
def dejavu(height: int, mono: bool = False) -> "FreeTypeFont":
    """DejaVu Sans, which comes with matplotlib; `height` in pixels, `mono` with equal widths."""
    import matplotlib
    from PIL import ImageFont

    place = (
        Path(matplotlib.get_data_path())
        / "fonts"
        / "ttf"
        / ("DejaVuSansMono.ttf" if mono else "DejaVuSans.ttf")
    )
    return ImageFont.truetype(place, height)
