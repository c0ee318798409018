"""The same images as PNG, lossless WebP and lossless JPEG XL: sizes, checked by decoding."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax.runtime.progress import progress

Encode = Callable[[np.ndarray], bytes]
Decode = Callable[[bytes], np.ndarray]


def _pillow(kind: str, **options: Any) -> tuple[Encode, Decode]:
    from PIL import Image, features

    if kind == "WEBP" and not features.check("webp"):
        raise ImportError("this Pillow has no WebP")

    def encode(image: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(image).save(out, kind, **options)
        return out.getvalue()

    return encode, lambda data: np.asarray(Image.open(io.BytesIO(data)))


def _jpegxl() -> tuple[Encode, Decode]:
    import imagecodecs

    if not imagecodecs.JPEGXL.available:
        raise ImportError("this imagecodecs has no JPEG XL")

    def encode(image: np.ndarray) -> bytes:
        return imagecodecs.jpegxl_encode(image, lossless=True, effort=9)

    return encode, imagecodecs.jpegxl_decode


_FORMATS = {
    "PNG": lambda: _pillow("PNG", optimize=True),
    "WebP lossless": lambda: _pillow("WEBP", lossless=True, quality=100, method=6),
    "JPEG XL lossless": _jpegxl,
}


def rivals(images: np.ndarray) -> list[dict[str, Any]]:
    """Sizes of the same images in other lossless formats, at their highest effort.

    Args:
        images: uint8 `[N, H, W, C]`, stored values as they are.

    Returns:
        One record per format: `format`, and `bits_per_dim` as one file per image and
        `bits_per_dim_sheet` as one picture of all images; or `missing` with the reason.

    Raises:
        ValueError: a format did not give the images back.
    """
    out = []
    for name, make in _FORMATS.items():
        try:
            encode, decode = make()
        except ImportError as e:
            out.append({"format": name, "missing": str(e)})
            continue
        each = 0
        with progress(name, len(images)) as bar:
            for done, image in enumerate(images, 1):
                each += _size(encode, decode, image, name)
                bar.at(done)
        sheet = _size(encode, decode, _sheet(images), name)
        out.append({
            "format": name,
            "bits_per_dim": 8.0 * each / images.size,
            "bits_per_dim_sheet": 8.0 * sheet / images.size,
        })  # fmt: skip
    return out


def _size(encode: Encode, decode: Decode, image: np.ndarray, name: str) -> int:
    grey = image.shape[-1] == 1
    data = encode(np.ascontiguousarray(image[:, :, 0] if grey else image))
    back = decode(data)
    back = back[..., None] if back.ndim == 2 else back
    # WebP has no grey pictures: it stores three equal channels, which cost it nothing.
    if not np.array_equal(np.broadcast_to(image, back.shape), back):
        raise ValueError(f"{name} did not return the same image")
    return len(data)


def _sheet(images: np.ndarray) -> np.ndarray:
    """All images in one picture, about square; what is left over of the last row is 0."""
    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n * height / width))
    rows = -(-n // columns)
    padded = np.zeros((rows * columns, height, width, channels), np.uint8)
    padded[:n] = images
    grid = padded.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)
