"""Real digits in six colours at four places, with captions of known information content.

Each object is a real handwritten digit in one quarter of the image. Its colour is a mask of the
channels, so pixels keep their levels; the rest is black. Captions follow a small grammar, and the
information that a text can carry about an image is known: log2 of the number of digits, colours
and places.

Scenes are not stored: each is a function of (split, index). Test scenes show test digits.
"""

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Sequence

import numpy as np

from diffusion_jax.allowed import Count, Share
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import UNSAID, Captions, captions_of
from diffusion_jax.data.datasets import _grammar as grammar
from diffusion_jax.errors import DataError

_PAIRS = ("seen", "unseen", "all")
_SIZES = {"valid": 500, "test": 1000}
_WORDINGS = 4  # captions per training image


def is_unseen(colour: int, digit: int) -> bool:
    """Whether a pair is kept out of training: one pair in six, one for each digit."""
    return (digit + colour) % len(grammar.COLOURS) == 0


def make(
    objects: Count | tuple[Count, ...] = (1, 2),
    said: Share = 0.7,
    pairs: str = "seen",
    size: Count = 20_000,
    of: Source | None = None,
) -> Source:
    """Scenes of real digits; the 8x8 digits give images of 16x16x3 with 17 levels.

    Args:
        objects: number of digits in a scene, 1 to 4; or several numbers, with equal probability.
        said: probability that a wording mentions an attribute, for three of four wordings. The
            first one, which evaluation uses, mentions all attributes.
        pairs: pairs of colour and digit that occur: `"seen"` for all except ten, `"unseen"` for
            those ten, `"all"` for all.
        size: number of training scenes.
        of: the digits, grey images with ten classes; None means `digits()`.

    Raises:
        DataError: an argument is not valid.
    """
    counts = tuple(sorted(objects)) if isinstance(objects, tuple) else (objects,)
    if not counts or max(counts) > len(grammar.PLACES) or len(set(counts)) != len(counts):
        raise DataError(
            f"scenes: objects={objects}: allowed: 1 to 4, or several numbers, as in (1, 2)"
        )
    if pairs not in _PAIRS:
        raise DataError(f"scenes: pairs={pairs!r}: allowed: {', '.join(_PAIRS)}")
    digits = of if of is not None else _digits()
    if not isinstance(digits, Source) or digits.num_classes != 10 or digits.shape[-1] != 1:
        raise DataError(f"scenes: of={of!r} must be grey images of ten digits, such as digits()")
    height, width, _ = digits.shape
    shape = (2 * height, 2 * width, 3)
    chosen = [(c, d) for c, d in itertools.product(range(len(grammar.COLOURS)), range(10))
              if pairs == "all" or is_unseen(c, d) == (pairs == "unseen")]  # fmt: skip

    def load(split: str) -> Split:
        part = digits.split(split)
        n = size if split == "train" else _SIZES[split]
        every = part.whole()  # replaced images come with their own labels
        if absent := set(range(10)) - set(np.unique(every["label"]).tolist()):
            raise DataError(
                f"scenes: {split!r} of {digits.name} has {len(part)} images and no "
                f"{', '.join(map(str, sorted(absent)))}: hold out more images (holdout=)"
            )
        rng = np.random.default_rng([zlib.crc32(f"scenes {split}".encode()), n])
        shown = _attributes(rng, n, counts, chosen)
        images = _drawn(rng, shown, every["image"], every["label"])
        captions = _captions(rng, shown, said if split == "train" else None, counts, chosen)
        where = functools.partial(_quarters, (height, width))
        captions = dataclasses.replace(captions, where=where)
        name = f"scenes_{digits.name}/{split}"
        return Split(name, images, np.zeros(n, np.int32), digits.levels, 0, captions)

    return Source(
        f"scenes_{digits.name}", shape, digits.levels, 0, functools.lru_cache(load),
        captioned=True, mirrors=False, attribution=digits.attribution,
    )  # fmt: skip


def _digits() -> Source:
    from diffusion_jax import registry

    return registry.build("data", "digits()")


def _attributes(
    rng: np.random.Generator, n: int, counts: tuple[int, ...], pairs: list[tuple[int, int]]
) -> np.ndarray:
    """Colour, digit and place of the objects, sorted by place; -1 for no object.

    Returns:
        int16 `[N, 3 * max(counts)]`.
    """
    most, places = max(counts), len(grammar.PLACES)
    where = np.sort(rng.random((n, places)).argsort(1)[:, :most], axis=1)
    # Scenes with fewer objects choose places again: the first places in reading order would favour
    # the top.
    count = np.asarray(counts)[rng.integers(0, len(counts), n)]
    for k in set(counts) - {most}:
        rows = count == k
        where[rows, :k] = np.sort(rng.random((int(rows.sum()), places)).argsort(1)[:, :k], axis=1)
    kind = np.asarray(pairs)[rng.integers(0, len(pairs), (n, most))]
    shown = np.concatenate([kind, where[..., None]], axis=-1)
    shown[np.arange(most) >= count[:, None]] = -1
    return shown.reshape(n, -1).astype(np.int16)


def _drawn(
    rng: np.random.Generator, shown: np.ndarray, images: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Renders scenes, with a real image of each object's digit."""
    n, (height, width) = len(shown), images.shape[1:3]
    masks, draws = np.asarray(grammar.MASKS, np.uint8), rng.random((n, shown.shape[1] // 3))
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], np.arange(11))
    out = np.zeros((n, 2 * height, 2 * width, 3), np.uint8)
    for k in range(shown.shape[1] // 3):
        colour, digit, place = shown[:, 3 * k : 3 * k + 3].T
        present = digit >= 0
        low, high = first[digit[present]], first[digit[present] + 1]
        which = order[low + (draws[present, k] * (high - low)).astype(int)]
        coloured = images[which] * masks[colour[present], None, None]
        rows = np.flatnonzero(present)
        for quarter in range(len(grammar.PLACES)):
            at = place[present] == quarter
            y, x = quarter // 2 * height, quarter % 2 * width
            out[rows[at], y : y + height, x : x + width] = coloured[at]
    return out


def _captions(
    rng: np.random.Generator,
    shown: np.ndarray,
    said: float | None,
    counts: tuple[int, ...],
    pairs: list[tuple[int, int]],
) -> Captions:
    """Captions that mention everything; with `said`, also wordings that leave attributes out."""
    complete = [grammar.say(values) for values in shown.tolist()]
    columns = [complete]
    for _ in range(_WORDINGS - 1 if said is not None else 0):
        kept = np.where((rng.random(shown.shape) < said) & (shown >= 0), shown, -1)
        forms = rng.integers(0, grammar.FORMS, len(shown)).tolist()
        objects = (shown[:, 1::3] >= 0).sum(1).tolist()
        rows = zip(kept.tolist(), objects, forms, strict=True)
        columns.append([grammar.say(v, n, form) for v, n, form in rows])
    names = tuple(
        f"{name}{k + 1 if max(counts) > 1 else ''}"
        for k in range(max(counts)) for name in ("colour", "digit", "place")
    )  # fmt: skip
    captions = captions_of(
        list(zip(*columns, strict=True)), attributes=shown, names=names, say=grammar.say,
        again=functools.partial(grammar.say, form=1), law=_distribution(counts, pairs),
        can_be=functools.partial(_can_be, counts, frozenset(pairs)),
    )  # fmt: skip
    says = np.asarray([_mentioned(text, shown.shape[1]) for text in captions.table], np.int16)
    return dataclasses.replace(captions, says=says)


def _quarters(shape: tuple[int, int], values: Sequence[int]) -> np.ndarray:
    """Mask of the objects of a scene, bool `[2 H, 2 W]`, for quarters of `shape` `(H, W)`."""
    lit = np.zeros(len(grammar.PLACES), bool)
    lit[[place for place in values[2::3] if place >= 0]] = True
    return np.kron(lit.reshape(2, 2), np.ones(shape, bool))


def _can_be(
    counts: tuple[int, ...], pairs: frozenset[tuple[int, int]], values: tuple[int, ...]
) -> bool:
    """Whether a scene may have these attributes: number of objects, pairs, and distinct places."""
    objects = [values[k : k + 3] for k in range(0, len(values), 3)]
    present = [o for o in objects if max(o) >= 0]
    places = [o[2] for o in present]
    return (
        objects[: len(present)] == present
        and len(present) in counts
        and all((colour, digit) in pairs for colour, digit, _ in present)
        and places == sorted({*places} - {-1})
    )


def _mentioned(text: str, size: int) -> list[int]:
    """The attributes that a caption mentions: `UNSAID` for others, -1 for objects beyond those."""
    values = [UNSAID if v < 0 else v for v in grammar.parse(text)]
    return values + [-1] * (size - len(values))


def _distribution(
    counts: tuple[int, ...], pairs: list[tuple[int, int]]
) -> tuple[tuple[tuple[int, ...], float], ...]:
    """All combinations of attributes with their probabilities; empty if there are too many."""
    if max(counts) > 2:
        return ()
    distribution = []
    for count in counts:
        places = list(itertools.combinations(range(len(grammar.PLACES)), count))
        p = 1.0 / (len(counts) * len(places) * len(pairs) ** count)
        for where, kinds in itertools.product(places, itertools.product(pairs, repeat=count)):
            values = [v for kind, w in zip(kinds, where, strict=True) for v in (*kind, w)]
            distribution.append((tuple(values + [-1] * 3 * (max(counts) - count)), p))
    return tuple(distribution)
