"""The reader of image files for data, edits, masks, the codec and samples.

Images are read as a viewer shows them: rotated according to EXIF, the first frame of an animation,
palettes and CMYK converted to colours, transparent pixels over white, and the upper 8 of 16 bits
per channel. Colour profiles are not applied. Grey is ITU-R 601 luma.
"""

import io
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

WHITE = 255
_WIDE = ("I", "F")  # 32 bits per channel


class Damaged(ValueError):
    """A file that is not a usable image."""


def read(file: BinaryIO | bytes, channels: int, background: int | None = WHITE) -> "Image":
    """Reads an image in grey or colour, 8 bits per channel.

    Args:
        file: the file or its content.
        channels: 1 for grey, 3 for colour.
        background: grey level behind transparent pixels; None means that they are an error.

    Raises:
        Damaged: the file cannot be decoded, has 32 bits per channel, or has transparent pixels
            without a background.
    """
    picture = _opened(file)
    try:
        return shown(picture, channels, background)
    except Damaged:
        raise
    except Exception as e:
        raise _why(e) from e


def shown(picture: "Image", channels: int, background: int | None = WHITE) -> "Image":
    """Like `read`, for an open image, or for the current frame of an animation."""
    from PIL import ImageOps

    if picture.mode in _WIDE:
        raise Damaged("has 32 bits per channel; save it with 8 or 16")
    picture = _eight_bits(ImageOps.exif_transpose(picture))
    return _flattened(picture, background).convert("L" if channels == 1 else "RGB")


def read_exactly(file: BinaryIO | bytes) -> np.ndarray:
    """The pixels of an 8-bit grey or RGB image, uint8 `[H, W, 1 or 3]`, without any conversion.

    Raises:
        Damaged: the file cannot be decoded, or holds another kind of image.
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
    """Crops and shrinks an image to a given size.

    The largest central crop with the right proportions (an odd pixel is cut off at the right or
    bottom) is shrunk by area averaging with Pillow's box filter, which works along rows, then
    columns, and rounds to integers both times. An image of the right size is not changed.

    Args:
        picture: the image.
        size: height and width.

    Returns:
        uint8 `[H, W]`, or `[H, W, 3]` for colour.

    Raises:
        Damaged: the image is smaller than `size`.
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
    """Keeps the upper 8 of 16 bits, where Pillow would clip; transparency compares all 16 bits."""
    from PIL import Image

    if not picture.mode.startswith("I;16"):
        return picture
    values, transparent = np.asarray(picture), picture.info.get("transparency")
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if transparent is None:
        return grey
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(alpha)))


def _flattened(picture: "Image", background: int | None) -> "Image":
    """Puts the background behind transparent pixels."""
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
    """Converts an error of Pillow, whose decoders raise many kinds on damaged files."""
    reason = next(iter(str(e).splitlines()), "") or type(e).__name__
    return Damaged("unknown or damaged format" if "identify" in reason else reason[:200])
