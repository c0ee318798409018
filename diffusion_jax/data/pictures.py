"""The one reader of picture files: of data, edits, masks, the codec and samples.

What is shown is what is read: turned as EXIF says, the first frame of several, palettes and CMYK as
colours, transparent pixels over white, 16 bits per channel cut to the upper 8. Colour profiles are
not applied; grey is ITU-R 601 luma.
"""

import io
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

WHITE = 255
_WIDE = ("I", "F")  # 32 bits per channel


class Damaged(ValueError):
    """A file that is not a usable picture."""


def read(file: BinaryIO | bytes, channels: int, background: int | None = WHITE) -> "Image":
    """A picture in grey (`channels` 1) or colour (3), 8 bits per channel.

    Args:
        background: grey level under transparent pixels; None refuses them.

    Raises:
        Damaged: it cannot be decoded, has 32 bits per channel, or transparent pixels.
    """
    picture = _opened(file)
    try:
        return shown(picture, channels, background)
    except Damaged:
        raise
    except Exception as e:
        raise _why(e) from e


def shown(picture: "Image", channels: int, background: int | None = WHITE) -> "Image":
    """What `read` gives of a picture that is open, or of the frame at which a film is."""
    from PIL import ImageOps

    if picture.mode in _WIDE:
        raise Damaged("has 32 bits per channel; save it with 8 or 16")
    picture = _eight_bits(ImageOps.exif_transpose(picture))
    return _flattened(picture, background).convert("L" if channels == 1 else "RGB")


def read_exactly(file: BinaryIO | bytes) -> np.ndarray:
    """The pixels of an 8-bit grey or RGB picture, uint8 `[H, W, 1 or 3]`, with nothing converted.

    Raises:
        Damaged: it cannot be decoded, or is of another kind.
    """
    picture = _opened(file)
    deep = any("16" in str(tile[3]) for tile in picture.tile)
    if deep or picture.mode not in ("L", "RGB") or "transparency" in picture.info:
        kind = "16 bits per channel" if deep else f"mode {picture.mode}"
        kind += " and transparent pixels" * ("transparency" in picture.info)
        raise Damaged(
            f"has {kind}; only 8-bit grey (L) and RGB can be coded without loss: convert it first"
        )
    try:
        return np.asarray(picture).reshape(picture.height, picture.width, -1)
    except Exception as e:
        raise _why(e) from e


def fitted(picture: "Image", size: tuple[int, int]) -> np.ndarray:
    """A picture in the size of a model.

    The largest central part of the model's proportions (the odd pixel off the right or bottom side)
    is shrunk by averaging areas (Pillow's box filter: along rows, then columns, rounded to whole
    levels each time). A picture of the right size keeps its pixels.

    Args:
        size: height and width.

    Returns:
        uint8 `[H, W]`, or `[H, W, 3]` in colour.

    Raises:
        Damaged: the picture is smaller than `size`.
    """
    from PIL import Image

    height, width = size
    if picture.height < height or picture.width < width:
        raise Damaged(f"is {picture.width}x{picture.height}, smaller than {width}x{height}")
    wide = min(picture.width, picture.height * width // height)
    high = min(picture.height, picture.width * height // width)
    left, top = (picture.width - wide) // 2, (picture.height - high) // 2
    picture = picture.crop((left, top, left + wide, top + high))
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture)


def _opened(file: BinaryIO | bytes) -> "Image":
    from PIL import Image

    try:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    except Exception as e:
        raise _why(e) from e


def _eight_bits(picture: "Image") -> "Image":
    """The upper 8 bits of 16, which Pillow would clip; all 16 tell whether a pixel is clear."""
    from PIL import Image

    if not picture.mode.startswith("I;16"):
        return picture
    values, clear = np.asarray(picture), picture.info.get("transparency")
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if clear is None:
        return grey
    seen = np.where(values == clear, 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(seen)))


def _flattened(picture: "Image", background: int | None) -> "Image":
    """A picture without transparent pixels: those show the background."""
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        return _over(picture.convert("RGBA"), background)
    return picture


def _over(picture: "Image", background: int | None) -> "Image":
    from PIL import Image

    if background is None:
        if picture.getextrema()[-1][0] < 255:
            raise Damaged("has transparent pixels; flatten it onto a background first")
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, (background,) * 3 + (255,))
    return Image.alpha_composite(ground, picture).convert("RGB")


def _why(e: Exception) -> Damaged:
    """Pillow's decoders raise nearly everything on damaged files."""
    told = next(iter(str(e).splitlines()), "") or type(e).__name__
    return Damaged("unknown or damaged format" if "identify" in told else told[:200])
