"""Sizes of the same examples in other lossless formats, checked by decoding.

Images are coded as PNG, WebP and JPEG XL, videos as animated PNG and WebP and with xz and bzip2,
everything else with xz and bzip2.
"""

import bz2
import io
import lzma
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax.data.media.video import film, frames_of_film
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


def _film(kind: str) -> tuple[Encode, Decode]:
    return lambda video: film(video, kind), frames_of_film


def _packed(module: Any) -> tuple[Encode, Decode]:
    return (
        lambda values: module.compress(values.tobytes()),
        lambda data: np.frombuffer(module.decompress(data), np.uint8),
    )


_PACKED = {"xz": lambda: _packed(lzma), "bzip2": lambda: _packed(bz2)}
# Codecs by medium; other media use general-purpose compressors only.
_FORMATS: dict[str, dict[str, Callable[[], tuple[Encode, Decode]]]] = {
    "image": {
        "PNG": lambda: _pillow("PNG", optimize=True),
        "WebP lossless": lambda: _pillow("WEBP", lossless=True, quality=100, method=6),
        "JPEG XL lossless": _jpegxl,
    },
    "video": {
        "animated PNG": lambda: _film("apng"),
        "animated WebP, lossless": lambda: _film("webp"),
        **_PACKED,
    },
}


def rivals(images: np.ndarray, medium: str = "image") -> list[dict[str, Any]]:
    """Sizes of the same examples in other lossless formats, at their highest effort.

    Args:
        images: stored values, uint8 `[N, H, W, C]` or the layout of another medium.
        medium: name of the medium.

    Returns:
        One record per format: `format`, with `bits_per_dim` for one file per example and
        `bits_per_dim_sheet` for one picture or file of all examples; or `missing`, with the reason.

    Raises:
        ValueError: a format did not reproduce the images.
    """
    out = []
    for name, make in _FORMATS.get(medium, _PACKED).items():
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
        sheet = _size(encode, decode, _SHEETS.get(medium, np.ravel)(images), name)
        out.append({
            "format": name,
            "bits_per_dim": 8.0 * each / images.size,
            "bits_per_dim_sheet": 8.0 * sheet / images.size,
        })  # fmt: skip
    return out


def _size(encode: Encode, decode: Decode, image: np.ndarray, name: str) -> int:
    data = encode(np.ascontiguousarray(image[:, :, 0] if _is_grey(image) else image))
    back = decode(data)
    if back.ndim == 1:
        same = np.array_equal(image.ravel(), back)
    else:
        back = back[..., None] if back.ndim < image.ndim else back
        # WebP has no grey pictures: it stores three equal channels, at no extra cost.
        same = np.array_equal(np.broadcast_to(image, back.shape), back)
    if not same:
        raise ValueError(f"{name} did not return the same values")
    return len(data)


def _is_grey(image: np.ndarray) -> bool:
    return image.ndim == 3 and image.shape[-1] == 1


def _sheet(images: np.ndarray) -> np.ndarray:
    """All images in one roughly square picture; the rest of the last row is 0."""
    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n * height / width))
    rows = -(-n // columns)
    padded = np.zeros((rows * columns, height, width, channels), np.uint8)
    padded[:n] = images
    grid = padded.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, channels)


def _film_sheet(videos: np.ndarray) -> np.ndarray:
    """All videos in one roughly square video."""
    return np.stack([_sheet(frame) for frame in videos.swapaxes(0, 1)])


_SHEETS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"image": _sheet, "video": _film_sheet}
