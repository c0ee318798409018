"""Named drawings from installed packages: checks them, puts them on white, and splits them."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import captions_of
from diffusion_jax.errors import DataError

SPLITS = ("combination", "concept", "words", "random")
_PARTS = 10  # one of ten drawings (or words) is held out for the test, one for validation
_COMMON = 100  # words of more than 1/100 of the drawings are never held out
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Drawing:
    """A drawing.

    Attributes:
        key: unique name, which determines the split.
        concept: number of the concept that it shows, shared by all variants.
        variant: number of the variant, 0 for the plain one.
        captions: one or several captions.
        image: uint8 `[H, W, 3]`.
    """

    key: str
    concept: int
    variant: int
    captions: tuple[str, ...]
    image: np.ndarray


def check_digest(digest: str, expected: str, who: str, install: str) -> None:
    """Raises DataError if the drawings differ from those used for published results."""
    if digest != expected:
        raise DataError(
            f"{who}: the installed drawings are another version than the expected one (SHA-256 "
            f"{digest[:8]}.., not {expected[:8]}..): {install}"
        )


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Puts drawings `[..., 4]` on white, uint8 `[..., 3]`; integers give reproducible pixels."""
    a = rgba[..., 3:].astype(np.int32)
    return ((rgba[..., :3] * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)


def smaller(image: np.ndarray, size: int) -> np.ndarray:
    """Shrinks a square image, whose side is a multiple of `size`, by rounded block means."""
    b = image.shape[0] // size
    blocks = image.reshape(size, b, size, b, 3).astype(np.int64).sum((1, 3))
    return ((blocks + b * b // 2) // (b * b)).astype(np.uint8)


def _bucket(text: str, n: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % n


def _words(drawing: Drawing) -> set[str]:
    return {word for text in drawing.captions for word in _WORD.findall(text.lower())}


def _new_words(every: Sequence[Drawing]) -> set[str]:
    """Words kept out of training captions: one word in ten, common words excepted."""
    counts = Counter(word for d in every for word in _words(d))
    few = max(1, len(every) // _COMMON)
    return {w for w, n in counts.items() if n <= few and _bucket(w, _PARTS) == 0}


def _part(drawing: Drawing, of: Sequence[Drawing], how: str, new: Collection[str]) -> str:
    """The split of a drawing.

    Args:
        drawing: the drawing.
        of: all variants of its concept.
        how: one of `SPLITS`.
        new: words kept for the test.
    """
    if how == "words" and not _words(drawing).isdisjoint(new):
        return "test"
    if how == "combination":
        # One variant of each concept is held out: concept and variant are both in training, but not
        # their combination.
        others = sorted(d.key for d in of if d.variant)
        if len(others) > 1 and drawing.key == others[_bucket(others[0], len(others))]:
            return "test"
    if how in ("combination", "words"):
        return "valid" if _bucket(drawing.key, 2 * _PARTS) == 0 else "train"
    key = of[0].key if how == "concept" else drawing.key
    return {0: "test", 1: "valid"}.get(_bucket(key, _PARTS), "train")


def source(
    name: str,
    size: int,
    how: str,
    names: tuple[str, str],
    read: Callable[[], list[Drawing]],
    say: Callable[[str, int], str],
    attribution: str,
) -> Source:
    """A data set of drawings.

    Args:
        name: name of the data set.
        size: height and width.
        how: how drawings are split, one of `SPLITS`.
        names: names of the two attributes, concept and variant.
        read: function that reads all drawings.
        say: renders a caption from the plain caption of a concept (empty: not mentioned) and a
            variant (-1: not mentioned).
        attribution: attribution that a model card must contain.

    Raises:
        DataError: `how` is not valid.
    """
    if how not in SPLITS:
        raise DataError(f"{name}: split={how!r} does not exist; choose from {', '.join(SPLITS)}")

    def load(split: str) -> Split:
        every = read()
        groups: dict[int, list[Drawing]] = {}
        for d in every:
            groups.setdefault(d.concept, []).append(d)
        plain = {k: _plain(group, say) for k, group in groups.items()}
        new = _new_words(every) if how == "words" else ()
        chosen = [d for d in every if _part(d, groups[d.concept], how, new) == split]
        most = max(len(d.captions) for d in every)
        texts = [tuple(d.captions[i % len(d.captions)] for i in range(most)) for d in chosen]
        shown = np.asarray([(d.concept, d.variant) for d in chosen], np.int16)

        real_captions = {(d.concept, d.variant): d.captions[0] for d in every}

        def render(values: Sequence[int]) -> str:
            concept, variant = values
            rendered = say("" if concept < 0 else plain[concept], max(variant, -1))
            return real_captions.get((concept, variant), rendered)

        captions = captions_of(
            texts, attributes=shown, names=names, say=render, can_be=real_captions.__contains__
        )
        images = np.stack([d.image for d in chosen])
        return Split(f"{name}/{split}", images, np.zeros(len(images), np.int32), 256, 0, captions)

    return Source(
        name, (size, size, 3), 256, 0, load, captioned=True, mirrors=False, attribution=attribution
    )


def _plain(group: Sequence[Drawing], say: Callable[[str, int], str]) -> str:
    """A concept's name without the words of a variant, even if there is no plain drawing of it."""
    first = min(group, key=lambda d: (d.variant, d.key))
    name = first.captions[0]
    return name.removesuffix(say("", first.variant)).strip() if first.variant else name
