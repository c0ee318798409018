"""Joint training on videos and single images (Ho et al. 2022, "Video diffusion models").

Images are more varied than videos, and easier to get. Unrelated images take the place of the frames
of some videos, and the label says whether an example is a video. In `video_unet` unrelated frames
do not attend to each other. Evaluation uses videos only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_jax.allowed import Rate, Seed
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.datasets._check_medium import check_medium
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.data.media.video import VIDEO
from diffusion_jax.errors import DataError


@dataclass(frozen=True, eq=False)
class _Mixed(Sequence):
    """The videos, followed by sets of unrelated images, which are functions of their index."""

    videos: Any
    images: Any
    total: int
    seed: int
    ndim: int = 5

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.total, *self.videos.shape[1:])

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.total

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.arange(self.total)[index]
        examples = np.stack([self._one(int(i)) for i in np.ravel(rows)])
        return examples if np.ndim(rows) else examples[0]

    def _one(self, i: int) -> np.ndarray:
        if i < len(self.videos):
            return np.asarray(self.videos[i])
        frames, rng = self.shape[1], np.random.default_rng([self.seed, i])
        if self.images is not None:
            chosen = rng.integers(0, len(self.images), frames)
            return np.stack([np.asarray(self.images[int(k)]) for k in chosen])
        chosen = rng.integers(0, len(self.videos), frames), rng.integers(0, frames, frames)
        pairs = zip(*(c.tolist() for c in chosen), strict=True)
        return np.stack([np.asarray(self.videos[k])[t] for k, t in pairs])


def make(of: Source, images: Source | None = None, share: Rate = 0.2, seed: Seed = 0) -> Source:
    """Videos and sets of unrelated images, as two classes: `video` and `images`.

    Train with `conditional=True`; sample and evaluate with class `video`.

    Args:
        of: the videos, such as `moving(mnist())`; their own labels are dropped.
        images: the single images, with the frames' shape and levels; None takes frames of the
            training videos.
        share: fraction of the training examples that are unrelated images.
        seed: seed for the choice of images.

    Raises:
        DataError: `of` is not a data set of videos, or `images` does not match its frames.
    """
    check_medium("joint: of", of, VIDEO, example="toys()")
    if images is not None:
        check_medium("joint: images", images, IMAGE)
    if images and (images.shape, images.levels) != (tuple(of.shape[1:]), of.levels):
        raise DataError(
            f"joint: images must be a data set of images {tuple(of.shape[1:])} with {of.levels} "
            f"levels, like the frames of {of.name}"
        )
    if share >= 1.0:
        raise DataError(f"joint: share={share} must be below 1, so that some examples are videos")
    name = f"joint_{of.name}_{images.name if images is not None else 'frames'}_{share:g}"

    def load(split: str) -> Split:
        videos = of.split(split)
        n = len(videos)
        count = round(n / (1.0 - share)) if split == "train" else n
        stills = images.split(split).images if images is not None and count > n else None
        mixed = _Mixed(videos.images, stills, count, seed)
        labels = (np.arange(count) >= n).astype(np.int32)
        return Split(f"{name}/{split}", mixed, labels, of.levels, 2)

    attributions = [s.attribution for s in (of, images) if s is not None]
    bits = of.entropy and (of.entropy[0], of.entropy[0])
    return Source(
        name, of.shape, of.levels, 2, load, ("video", "images"), mirrors=of.mirrors, medium=VIDEO,
        entropy=bits, stills=1, attribution=" ".join(filter(None, attributions)),
    )  # fmt: skip
