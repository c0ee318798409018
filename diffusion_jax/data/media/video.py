"""Videos: all frames of one size."""

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

_MILLISECONDS = 150  # that a frame stays


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
        """Whether they have frames, height, width and 1 or 3 channels."""
        return len(shape) == 4 and shape[-1] in (1, 3)

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """Strips: the frames from left to right, a line between them."""
        n, frames, height, _, channels = examples.shape
        line = np.full((n, frames, height, 1, channels), levels // 2, examples.dtype)
        strip = np.concatenate([examples, line], axis=3).transpose(0, 2, 1, 3, 4)
        return strip.reshape(n, height, -1, channels)[:, :, :-1]

    def read(self, file: BinaryIO, shape: tuple[int, ...], levels: int) -> np.ndarray:
        """The first frames of a GIF, WebP or animated PNG, each cut and shrunk as a picture is."""
        found = clip(file, shape)
        return np.round(found * ((levels - 1) / 255.0)).astype(np.uint8)

    def keep(
        self, path: Path, examples: np.ndarray, levels: int, kind: str = ""
    ) -> tuple[Path, ...]:
        """One film of all of them side by side: `.gif` in grey, else lossless `.webp`."""
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
    """So many frames of an animated file as uint8 0 .. 255 of `shape`, `(T, H, W, C)`.

    Args:
        start: the first of them.

    Raises:
        Damaged: it cannot be decoded, or has fewer frames, or smaller ones.
    """
    found = frames_of(file, shape[-1])
    if len(found) < start + shape[0]:
        raise Damaged(f"has {len(found)} frames, fewer than {start + shape[0]}")
    kept = found[start : start + shape[0]]
    return np.stack([fitted(f, (shape[1], shape[2])) for f in kept]).reshape(shape)


def frames_of(file: BinaryIO, channels: int) -> list["PilImage"]:
    """The frames of an animated file, read as pictures are; one that stays for long comes once.

    The picture of an animated PNG for programs that show no animation is none of them.

    Raises:
        Damaged: it cannot be decoded.
    """
    from PIL import Image, ImageSequence

    try:
        with Image.open(file) as film:
            found = [shown(frame, channels) for frame in ImageSequence.Iterator(film)]
            return found[bool(getattr(film, "default_image", False)) :]
    except Damaged:
        raise
    except Exception as e:  # Pillow's decoders raise nearly everything on damaged files
        raise Damaged((str(e).splitlines() or [type(e).__name__])[0][:200]) from e


def frames_of_film(data: bytes) -> np.ndarray:
    """The frames of what `film` wrote, uint8 `[T, H, W]` in grey or `[T, H, W, 3]`.

    Equal frames in a row are one in the file, that stays for longer.
    """
    from PIL import Image, ImageSequence

    out = []
    with Image.open(io.BytesIO(data)) as found:
        for frame in ImageSequence.Iterator(found):
            frame.load()  # WebP tells only now for how long
            stays = max(round(frame.info.get("duration", _MILLISECONDS) / _MILLISECONDS), 1)
            picture = frame if frame.mode == "L" else frame.convert("RGB")
            out += [np.asarray(picture)] * stays
    return np.stack(out)


# How Pillow writes films without loss, by their endings; grey fits into the 256 colours of GIF.
FILMS = {
    "gif": {"format": "GIF", "optimize": False, "disposal": 1},
    "webp": {"format": "WEBP", "lossless": True, "quality": 100, "method": 4},
    "apng": {"format": "PNG", "optimize": True},
}


def film(frames: np.ndarray, kind: str) -> bytes:
    """An animated file of uint8 `[T, H, W, 1 or 3]`, endless.

    Args:
        kind: one of `FILMS`; GIF keeps grey exactly, and of colours 256.
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
