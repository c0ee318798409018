"""Drawings with names that come in installed packages: found, checked, on white, and split."""

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
_PARTS = 10  # of all drawings, or words, one is for tests and one for validation
_COMMON = 100  # words that more than one drawing in so many has are in training
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Drawing:
    """A drawing.

    Attributes:
        key: what it is known by; decides its split.
        concept: what it shows, a number; variants of it have the same.
        variant: which, 0 for the plain one.
        captions: one or several.
        image: uint8 `[H, W, 3]`.
    """

    key: str
    concept: int
    variant: int
    captions: tuple[str, ...]
    image: np.ndarray


def check_digest(found: str, known: str, who: str, install: str) -> None:
    """Raises DataError for other drawings than those that figures were measured on."""
    if found != known:
        raise DataError(
            f"{who}: these are not the drawings that figures were measured on (SHA-256 "
            f"{found[:8]}.., not {known[:8]}..): {install}"
        )


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Drawings `[..., 4]` on white, uint8 `[..., 3]`, in whole numbers: the same everywhere."""
    a = rgba[..., 3:].astype(np.int32)
    return ((rgba[..., :3] * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)


def smaller(image: np.ndarray, size: int) -> np.ndarray:
    """Means of blocks, rounded, of a square image whose side is a multiple of `size`."""
    b = image.shape[0] // size
    blocks = image.reshape(size, b, size, b, 3).astype(np.int64).sum((1, 3))
    return ((blocks + b * b // 2) // (b * b)).astype(np.uint8)


def _bucket(text: str, n: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % n


def _words(drawing: Drawing) -> set[str]:
    return {word for text in drawing.captions for word in _WORD.findall(text.lower())}


def _new_words(every: Sequence[Drawing]) -> set[str]:
    """The words that no caption of training shall have: one in ten, but for common ones."""
    counts = Counter(word for d in every for word in _words(d))
    few = max(1, len(every) // _COMMON)
    return {w for w, n in counts.items() if n <= few and _bucket(w, _PARTS) == 0}


def _part(drawing: Drawing, of: Sequence[Drawing], how: str, new: Collection[str]) -> str:
    """The split a drawing is in; `of` are all variants of what it shows, `new` words of tests."""
    if how == "words" and not _words(drawing).isdisjoint(new):
        return "test"
    if how == "combination":
        # Of every drawing that has variants one of these is for tests: what is new is how a known
        # variant looks on a known drawing.
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
        how: one of `SPLITS`.
        names: of what drawings are, and of variants.
        read: all of them, when they are needed.
        say: the caption of a concept's plain caption (empty if unsaid) and a variant (-1 likewise).
        attribution: what a card of a model must say.

    Raises:
        DataError: there is no such split.
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

        own = {(d.concept, d.variant): d.captions[0] for d in every}

        def of(values: Sequence[int]) -> str:
            concept, variant = values
            made = say("" if concept < 0 else plain[concept], max(variant, -1))
            return own.get((concept, variant), made)

        captions = captions_of(
            texts, attributes=shown, names=names, say=of,
            can_be=own.__contains__,
        )  # fmt: skip
        images = np.stack([d.image for d in chosen])
        return Split(f"{name}/{split}", images, np.zeros(len(images), np.int32), 256, 0, captions)

    return Source(
        name, (size, size, 3), 256, 0, load, captioned=True, mirrors=False, attribution=attribution
    )


def _plain(group: Sequence[Drawing], say: Callable[[str, int], str]) -> str:
    """What a thing is called without a word of its variant, also if none is drawn plain."""
    first = min(group, key=lambda d: (d.variant, d.key))
    name = first.captions[0]
    return name.removesuffix(say("", first.variant)).strip() if first.variant else name
