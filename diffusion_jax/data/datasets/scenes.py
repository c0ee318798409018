"""Real digits in six colours at four places, with captions: nothing to install, all known.

Each object is one real handwritten digit in a quarter of the image, its colour a mask of the
channels, so that pixels keep their levels; the rest is black. Captions are of a small grammar, and
what a text can tell of an image is known: log2 of the number of digits, colours and places.

A scene is a function of (split, number): nothing is stored. Digits of test scenes are test digits.
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
_WORDINGS = 4  # captions of a training image


def is_unseen(colour: int, digit: int) -> bool:
    """Whether a digit of that colour is kept for tests: one pair of six, each digit once."""
    return (digit + colour) % len(grammar.COLOURS) == 0


def make(
    objects: Count | tuple[Count, ...] = (1, 2),
    said: Share = 0.7,
    pairs: str = "seen",
    size: Count = 20_000,
    of: Source | None = None,
) -> Source:
    """Scenes of real digits, 17 levels, 16x16x3 of the 8x8 digits.

    Args:
        objects: how many digits a scene has, 1 to 4: a number, or several, equally often.
        said: in three of four wordings each attribute is said with this probability; the first
            wording, which evaluation uses, says all of them.
        pairs: which digits are of which colours: `"seen"`, all pairs but ten that no training scene
            of this kind has; `"unseen"`, those ten; `"all"`.
        size: training scenes.
        of: the digits, ten classes in grey; `digits()` if None.

    Raises:
        DataError: the arguments make no scenes.
    """
    counts = tuple(sorted(objects)) if isinstance(objects, tuple) else (objects,)
    if not counts or max(counts) > len(grammar.PLACES) or len(set(counts)) != len(counts):
        raise DataError(f"scenes: objects={objects}: allowed are 1 to 4, or several, as (1, 2)")
    if pairs not in _PAIRS:
        raise DataError(f"scenes: pairs={pairs!r}: allowed are {', '.join(_PAIRS)}")
    digits = of if of is not None else _digits()
    if not isinstance(digits, Source) or digits.num_classes != 10 or digits.shape[-1] != 1:
        raise DataError(f"scenes: of={of!r} must be grey images of ten digits, such as digits()")
    height, width, _ = digits.shape
    shape = (2 * height, 2 * width, 3)
    chosen = [(c, d) for c, d in itertools.product(range(len(grammar.COLOURS)), range(10))
              if pairs == "all" or is_unseen(c, d) == (pairs == "unseen")]  # fmt: skip

    def load(split: str) -> Split:
        found = digits.split(split)
        n = size if split == "train" else _SIZES[split]
        every = found.whole()  # an image that replaces a damaged one brings its label
        if lacking := set(range(10)) - set(np.unique(every["label"]).tolist()):
            raise DataError(
                f"scenes: {split!r} of {digits.name} has {len(found)} images and no "
                f"{', '.join(map(str, sorted(lacking)))}: give it more of them (holdout)"
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
    """Colour, digit and place of each object, `[N, 3 most]`, by place; -1 for no object."""
    most, places = max(counts), len(grammar.PLACES)
    where = np.sort(rng.random((n, places)).argsort(1)[:, :most], axis=1)
    # The first `count` of a random choice, in reading order, would prefer the top: choose anew.
    count = np.asarray(counts)[rng.integers(0, len(counts), n)]
    for k in set(counts) - {most}:
        some = count == k
        where[some, :k] = np.sort(rng.random((int(some.sum()), places)).argsort(1)[:, :k], axis=1)
    kind = np.asarray(pairs)[rng.integers(0, len(pairs), (n, most))]
    shown = np.concatenate([kind, where[..., None]], axis=-1)
    shown[np.arange(most) >= count[:, None]] = -1
    return shown.reshape(n, -1).astype(np.int16)


def _drawn(
    rng: np.random.Generator, shown: np.ndarray, images: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """The scenes: for each object one real image of its digit."""
    n, (height, width) = len(shown), images.shape[1:3]
    masks, draws = np.asarray(grammar.MASKS, np.uint8), rng.random((n, shown.shape[1] // 3))
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], np.arange(11))
    out = np.zeros((n, 2 * height, 2 * width, 3), np.uint8)
    for k in range(shown.shape[1] // 3):
        colour, digit, place = shown[:, 3 * k : 3 * k + 3].T
        there = digit >= 0
        low, high = first[digit[there]], first[digit[there] + 1]
        which = order[low + (draws[there, k] * (high - low)).astype(int)]
        coloured = images[which] * masks[colour[there], None, None]
        rows = np.flatnonzero(there)
        for quarter in range(len(grammar.PLACES)):
            at = place[there] == quarter
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
    """Captions that say everything; with `said`, more wordings that leave some out."""
    whole = [grammar.say(values) for values in shown.tolist()]
    columns = [whole]
    for _ in range(_WORDINGS - 1 if said is not None else 0):
        kept = np.where((rng.random(shown.shape) < said) & (shown >= 0), shown, -1)
        forms = rng.integers(0, grammar.FORMS, len(shown)).tolist()
        there = (shown[:, 1::3] >= 0).sum(1).tolist()
        each = zip(kept.tolist(), there, forms, strict=True)
        columns.append([grammar.say(v, n, form) for v, n, form in each])
    names = tuple(
        f"{name}{k + 1 if max(counts) > 1 else ''}"
        for k in range(max(counts)) for name in ("colour", "digit", "place")
    )  # fmt: skip
    law = _law(counts, pairs)
    found = captions_of(
        list(zip(*columns, strict=True)), attributes=shown, names=names, say=grammar.say,
        again=functools.partial(grammar.say, form=1), law=law,
        can_be=functools.partial(_can_be, counts, frozenset(pairs)),
    )  # fmt: skip
    says = np.asarray([_told(text, shown.shape[1]) for text in found.table], np.int16)
    return dataclasses.replace(found, says=says)


def _quarters(shape: tuple[int, int], values: Sequence[int]) -> np.ndarray:
    """Where the objects of a scene are, bool `[2 H, 2 W]`, with quarters of `shape` `(H, W)`."""
    lit = np.zeros(len(grammar.PLACES), bool)
    lit[[place for place in values[2::3] if place >= 0]] = True
    return np.kron(lit.reshape(2, 2), np.ones(shape, bool))


def _can_be(
    counts: tuple[int, ...], pairs: frozenset[tuple[int, int]], values: tuple[int, ...]
) -> bool:
    """Whether a scene has such attributes: as many objects, such ones, each at its own place."""
    objects = [values[k : k + 3] for k in range(0, len(values), 3)]
    there = [o for o in objects if max(o) >= 0]
    places = [o[2] for o in there]
    return (
        objects[: len(there)] == there
        and len(there) in counts
        and all((colour, digit) in pairs for colour, digit, _ in there)
        and places == sorted({*places} - {-1})
    )


def _told(text: str, size: int) -> list[int]:
    """The attributes a caption tells: of the objects it names those it says, no further object."""
    values = [UNSAID if v < 0 else v for v in grammar.parse(text)]
    return values + [-1] * (size - len(values))


def _law(
    counts: tuple[int, ...], pairs: list[tuple[int, int]]
) -> tuple[tuple[tuple[int, ...], float], ...]:
    """Every scene's attributes with their probability; nothing where they are too many."""
    if max(counts) > 2:
        return ()
    law = []
    for count in counts:
        places = list(itertools.combinations(range(len(grammar.PLACES)), count))
        p = 1.0 / (len(counts) * len(places) * len(pairs) ** count)
        for where, kinds in itertools.product(places, itertools.product(pairs, repeat=count)):
            values = [v for kind, w in zip(kinds, where, strict=True) for v in (*kind, w)]
            law.append((tuple(values + [-1] * 3 * (max(counts) - count)), p))
    return tuple(law)
