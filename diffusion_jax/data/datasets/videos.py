"""Your own videos: a folder of animated files (gif, webp, png), or of folders of frames."""

import functools
import zlib
from pathlib import Path

import numpy as np

from diffusion_jax.allowed import Count, Rate
from diffusion_jax.data.base import Source, Split, beside, located
from diffusion_jax.data.media.video import VIDEO, frames_of
from diffusion_jax.data.pictures import Damaged, fitted, read
from diffusion_jax.errors import DataError

_FILMS, _STILLS = (".gif", ".webp", ".apng", ".png"), (".png", ".jpg", ".jpeg", ".webp")


def make(
    path: str,
    frames: Count = 8,
    size: Count | tuple[Count, Count] = 32,
    channels: Count = 3,
    stride: Count = 1,
    valid: Rate = 0.05,
    test: Rate = 0.05,
    data_dir: str = "",
) -> Source:
    """Clips of `frames` frames; each video is cut into consecutive clips.

    All clips are read into memory once. Remaining frames at the end of a video are dropped.

    Args:
        path: a folder; relative to `data_dir` if that is set. Every animated gif, webp or png in it
            is a video, and so is every subfolder of images, whose frames are sorted by name.
        frames: number of frames in a clip.
        size: height and width in pixels, or one number for both; frames are cropped and shrunk.
        channels: 3, or 1 for luminance.
        stride: take every `stride`-th frame.
        valid: fraction of the videos held out for validation, by a hash of their names.
        test: fraction of the videos held out for the test, by the same hash.
        data_dir: see `path`.

    Raises:
        DataError: there are no videos, they cannot be read, or an argument is not valid.
    """
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or channels not in (1, 3):
        raise DataError(
            f"videos: size={size}, channels={channels}: allowed: size=64 or size=(height, width), "
            "and 1 or 3 channels"
        )
    if valid + test >= 1:
        raise DataError(
            f"videos: valid={valid}, test={test}: must be fractions of 1 that leave some for "
            "training"
        )
    folder = located(path, data_dir)
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is not a folder{beside(folder)}; videos() needs one")
    shape = (frames, *sides, channels)

    @functools.lru_cache
    def read_all() -> dict[str, np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
        for video in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
            images = _video(video, sides, channels)[::stride]
            count = len(images) // frames
            share = zlib.crc32(video.name.encode()) / 2**32
            split = "test" if share < test else "valid" if share < test + valid else "train"
            parts[split] += [images[k * frames : (k + 1) * frames] for k in range(count)]
        return {k: np.asarray(v, np.uint8).reshape(-1, *shape) for k, v in parts.items()}

    def load(split: str) -> Split:
        images = read_all()[split]
        return Split(f"{folder.name}/{split}", images, np.zeros(len(images), np.int32), 256, 0)

    if not sum(map(len, read_all().values())):
        raise DataError(
            f"{str(folder)!r} has no videos of {frames} frames (stride={stride}): needs animated "
            "gif, webp or png files, or folders of images"
        )
    return Source(folder.name, shape, 256, 0, load, medium=VIDEO)


def _video(path: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """The frames of a video, uint8 `[T, H, W, C]`; empty for files of other kinds."""
    pictures = []
    try:
        if path.is_dir():
            stills = sorted(p for p in path.iterdir() if p.suffix.lower() in _STILLS)
            pictures = [read(p.read_bytes(), channels) for p in stills]
        elif path.suffix.lower() in _FILMS:
            with path.open("rb") as file:
                pictures = frames_of(file, channels)
        resized = [fitted(picture, size).reshape(*size, channels) for picture in pictures]
    except (OSError, Damaged) as e:
        raise DataError(f"cannot read the video {path}: {e}") from e
    return np.asarray(resized, np.uint8).reshape(-1, *size, channels)
