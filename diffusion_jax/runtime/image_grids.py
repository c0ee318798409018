"""Image grids as PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusion_jax.runtime import fonts
from diffusion_jax.runtime.storage import write_picture

_GAP, _GROUND, _INK = 2, 64, 230
_TEXT = 12  # height of a caption's letters
_LINE = 18  # height of a line of text
_LARGEST = 2048  # approximate size limit of a sheet of samples, in pixels


def columns_for(count: int, shape: tuple[int, ...], classes: int = 0) -> int:
    """Number of columns that makes a sheet about square, or up to twice as wide as high.

    Args:
        count: number of images.
        shape: shape of an image, `(H, W, C)`.
        classes: number of classes that the images cycle through; each column then has one class,
            if the sheet does not get too long.
    """

    def longish(columns: int) -> tuple[float, int]:
        ratio = columns * shape[1] / (math.ceil(count / columns) * shape[0])
        return round(abs(math.log2(ratio)), 6), -columns

    best = min(range(1, count + 1), key=longish)
    if not classes:
        return best
    whole = min(range(classes, count + 1, classes), key=longish, default=best)
    return whole if longish(whole)[0] <= 1.0 else best


def most(shape: tuple[int, ...], limit: int = 400, pixels: int = 64) -> int:
    """How many images of this shape fit on a sheet."""
    h, w = (n * _factor(shape[0], pixels) + _GAP for n in shape[:2])
    return min(limit, max(_LARGEST // h, 1) * max(_LARGEST // w, 1))


def _factor(height: int, pixels: int) -> int:
    return max(1, -(-pixels // height))


def grid(
    images: np.ndarray,
    levels: int,
    columns: int = 0,
    pixels: int = 64,
    captions: Sequence[str] = (),
    under: Sequence[str] = (),
) -> np.ndarray:
    """Tiles images into one picture.

    Args:
        images: integers `[N, H, W, C]` with C = 1 or 3, values 0 .. levels-1.
        levels: number of grey levels; the highest becomes white.
        columns: images per row; 0 for about the square root of N.
        pixels: small images are enlarged by an integer factor to at least this height.
        captions: texts above the images; if all rows have the same texts, they are written once.
        under: longer texts below the images, in as many lines as they need.

    Returns:
        uint8 `[H', W', 3]`.

    Raises:
        ValueError: the images have neither 1 nor 3 channels.
    """
    n, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ValueError(f"cannot draw images with {channels} channels")
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows, factor = math.ceil(n / columns), _factor(height, pixels)
    shown = np.round(images.astype(np.float64) * (255.0 / (levels - 1))).astype(np.uint8)
    shown = shown.repeat(factor, axis=1).repeat(factor, axis=2)
    shown = np.broadcast_to(shown, (*shown.shape[:3], 3))
    if under:
        shown = np.concatenate([shown, _lines_under(under, width * factor)], axis=1)
    h, w = shown.shape[1:3]
    once = all(text == captions[i % columns] for i, text in enumerate(captions))
    texts = list(captions[:columns] if once else captions)
    lines = math.ceil(len(texts) / columns)  # rows with captions: none, the first, or all
    size = (rows * (h + _GAP) - _GAP + lines * _LINE, columns * (w + _GAP) - _GAP, 3)
    canvas = np.full(size, _GROUND, np.uint8)
    tops = [i * (h + _GAP) + min(i + 1, lines) * _LINE for i in range(rows)]
    for i, image in enumerate(shown):
        y, x = tops[i // columns], i % columns * (w + _GAP)
        canvas[y : y + h, x : x + w] = image
    for i, text in enumerate(texts):
        y, x = tops[i // columns] - _LINE, i % columns * (w + _GAP)
        canvas[y : y + _LINE, x : x + w] = _written(text, w)
    return canvas


def _lines_under(texts: Sequence[str], width: int) -> np.ndarray:
    """Texts wrapped to `width` pixels and padded to equal height: uint8 `[N, h, width, 3]`."""
    font, each = fonts.dejavu(_TEXT), []
    for text in texts:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and font.getlength(longer) > width - 2:
                lines.append(word)
            else:
                lines[-1] = longer
        each.append(lines)
    most = max(map(len, each))
    rows = [[_written(line, width) for line in lines + [""] * (most - len(lines))]
            for lines in each]  # fmt: skip
    return np.stack([np.concatenate(r) for r in rows])


def _written(text: str, width: int) -> np.ndarray:
    """A caption as uint8 `[line, width, 3]`, shortened if it is too long."""
    from PIL import Image, ImageDraw

    font, picture = fonts.dejavu(_TEXT), Image.new("L", (width, _LINE), _GROUND)
    draw, shown = ImageDraw.Draw(picture), text
    while len(shown) > 1 and draw.textlength(shown, font) > width - 2:
        shown = shown[:-2] + "\u2026" if shown.endswith("\u2026") else shown[:-1] + "\u2026"
    draw.text((width // 2, _LINE // 2), shown, _INK, font, "mm")
    return np.asarray(picture)[..., None].repeat(3, -1)


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 `[H, W, 3]` picture."""
    from PIL import Image

    write_picture(path, Image.fromarray(image))
