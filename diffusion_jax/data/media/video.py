"""Videos with frames of equal size."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from diffusion_jax.data.pictures import Damaged, fitted, shown
from diffusion_jax.runtime import image_grids
from diffusion_jax.runtime.storage import write

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

_MILLISECONDS = 150  # duration of a frame


@dataclass(frozen=True)
class Video:
    """Grey or colour videos `(T, H, W, C)`."""

    name: str = "video"
    shapes: str = "(frames, height, width, 1 or 3)"
    layout: str = "[N,T,H,W,C] with 1 or 3 channels"
    file: str = "video"
    time: int = 0
    kinds: tuple[str, ...] = ("gif", "webp", "apng")

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the shape is that of a grey or RGB video."""
        return len(shape) == 4 and shape[-1] in (1, 3)

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """Strips of frames from left to right, separated by lines."""
        n, frames, height, _, channels = examples.shape
        line = np.full((n, frames, height, 1, channels), levels // 2, examples.dtype)
        strip = np.concatenate([examples, line], axis=3).transpose(0, 2, 1, 3, 4)
        return strip.reshape(n, height, -1, channels)[:, :, :-1]

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """The first frames of a GIF, WebP or animated PNG, cropped and shrunk like images."""
        frames = clip(file, shape)
        return np.round(frames * ((levels - 1) / 255.0)).astype(np.uint8)

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """Writes one animation of all videos in a grid: `.gif` if grey, else lossless `.webp`."""
        if not len(examples):
            return ()
        columns = image_grids.columns_for(len(examples), examples.shape[2:])
        frames = [image_grids.grid(f, levels, columns) for f in examples.swapaxes(0, 1)]
        kind = kind or ("gif" if examples.shape[-1] == 1 else "webp")
        path = path.with_suffix(f".{kind}")
        write(path, film(np.stack(frames), kind))
        return (path,)


VIDEO = Video()


def clip(file: BinaryIO, shape: tuple[int, ...], start: int = 0) -> np.ndarray:
    """Reads frames of an animated file as uint8 0 .. 255 of `shape`, `(T, H, W, C)`.

    Args:
        file: the file.
        shape: shape of the result.
        start: index of the first frame.

    Raises:
        Damaged: the file cannot be decoded, or has too few or too small frames.
    """
    frames = frames_of(file, shape[-1])
    if len(frames) < start + shape[0]:
        raise Damaged(f"has {len(frames)} frames, fewer than {start + shape[0]}")
    chosen = frames[start : start + shape[0]]
    return np.stack([fitted(f, (shape[1], shape[2])) for f in chosen]).reshape(shape)


def frames_of(file: BinaryIO, channels: int) -> list["PilImage"]:
    """The frames of an animated file, read like images, each once regardless of its duration.

    The fallback image of an animated PNG, for viewers without animation, is not included.

    Raises:
        Damaged: the file cannot be decoded.
    """
    from PIL import Image, ImageSequence

    try:
        with Image.open(file) as animation:
            frames = [shown(frame, channels) for frame in ImageSequence.Iterator(animation)]
            return frames[bool(getattr(animation, "default_image", False)) :]
    except Damaged:
        raise
    except Exception as e:  # Pillow's decoders raise nearly everything on damaged files
        raise Damaged((str(e).splitlines() or [type(e).__name__])[0][:200]) from e


def frames_of_film(data: bytes) -> np.ndarray:
    """The frames of an animation written by `film`, uint8 `[T, H, W]` if grey, else `[T, H, W, 3]`.

    Consecutive equal frames are stored once, with a longer duration.
    """
    from PIL import Image, ImageSequence

    out = []
    with Image.open(io.BytesIO(data)) as animation:
        for frame in ImageSequence.Iterator(animation):
            frame.load()  # WebP knows the duration only now
            repeats = max(round(frame.info.get("duration", _MILLISECONDS) / _MILLISECONDS), 1)
            picture = frame if frame.mode == "L" else frame.convert("RGB")
            out += [np.asarray(picture)] * repeats
    return np.stack(out)


# Pillow's options for lossless animations, by ending; grey fits into the 256 colours of GIF.
FILMS = {
    "gif": {"format": "GIF", "optimize": False, "disposal": 1},
    "webp": {"format": "WEBP", "lossless": True, "quality": 100, "method": 4},
    "apng": {"format": "PNG", "optimize": True},
}


def film(frames: np.ndarray, kind: str) -> bytes:
    """Encodes frames as an endlessly looping animation.

    Args:
        frames: uint8 `[T, H, W, 1 or 3]`.
        kind: one of `FILMS`. GIF is lossless for grey, but reduces colours to 256.
    """
    from PIL import Image

    grey = frames.shape[-1] == 1 or bool((frames[..., :1] == frames).all())
    pictures = [Image.fromarray(f[..., 0] if grey else f) for f in frames]
    out = io.BytesIO()
    pictures[0].save(
        out, save_all=True, append_images=pictures[1:], duration=_MILLISECONDS, loop=0,
        **FILMS[kind],
    )  # fmt: skip
    return out.getvalue()
