"""Videos: all frames of one size."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.runtime import images
from diffusion_jax.runtime.storage import write

_MILLISECONDS = 150  # that a frame stays


@dataclass(frozen=True)
class Video:
    """Grey or colour videos `(T, H, W, C)`."""

    name: str = "video"
    shapes: str = "(frames, height, width, 1 or 3)"
    layout: str = "[N,T,H,W,C] with 1 or 3 channels"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether they have frames, height, width and 1 or 3 channels."""
        return len(shape) == 4 and shape[-1] in (1, 3)

    def stills(self, examples: np.ndarray, levels: int) -> np.ndarray:
        """Strips: the frames from left to right, a line between them."""
        n, frames, height, _, channels = examples.shape
        line = np.full((n, frames, height, 1, channels), levels // 2, examples.dtype)
        strip = np.concatenate([examples, line], axis=3).transpose(0, 2, 1, 3, 4)
        return strip.reshape(n, height, -1, channels)[:, :, :-1]

    def keep(self, path: Path, examples: np.ndarray, levels: int) -> tuple[Path, ...]:
        """One film of all of them side by side: `.gif` in grey, lossless `.webp` in colour."""
        if not len(examples):
            return ()
        columns = images.columns_for(len(examples), examples.shape[2:])
        frames = [images.grid(f, levels, columns) for f in examples.swapaxes(0, 1)]
        kind = "gif" if examples.shape[-1] == 1 else "webp"
        path = path.with_suffix(f".{kind}")
        write(path, film(np.stack(frames), kind))
        return (path,)


VIDEO = Video()

# How Pillow writes films without loss, by their endings; grey fits into the 256 colours of GIF.
FILMS = {
    "gif": {"format": "GIF", "optimize": False, "disposal": 1},
    "webp": {"format": "WEBP", "lossless": True, "quality": 100, "method": 4},
    "png": {"format": "PNG", "optimize": True},
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
