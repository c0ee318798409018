"""Other captions than an image's own: parts of it, wrong ones, those of other images.

Everything drawn is a function of (seed, number of the image).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.captions import Captions
from diffusion_jax.errors import DataError


@dataclass(frozen=True)
class Candidates:
    """Captions that each image is held against.

    Attributes:
        texts: `[M][N]`.
        true: which of them is the image's own, `[N]`.
        other: one that is not, drawn at random, `[N]`.
        probability: of each, `[M]`, if they are all there are; else None.
    """

    texts: list[list[str]]
    true: np.ndarray
    other: np.ndarray
    probability: np.ndarray | None


def _rng(seed: int, image: int, what: int) -> np.random.Generator:
    return np.random.default_rng([seed, image, what])


def whole_set(captions: Captions) -> dict[str, float]:
    """All captions there are, with their probabilities; equal ones where the law is not known."""
    if captions.law and captions.say is not None:
        found: dict[str, float] = {}
        for values, p in captions.law:
            text = captions.say(values)
            found[text] = found.get(text, 0.0) + p
        return {t: p for t, p in found.items() if p > 0}
    distinct = dict.fromkeys(t for t in captions.strings() if t)
    return dict.fromkeys(distinct, 1.0 / len(distinct))


def candidates(captions: Captions, count: int, seed: int) -> Candidates:
    """An image's own caption among `count`, or among all there are (0, or no more than that).

    Raises:
        DataError: there is one caption only.
    """
    own, every = captions.strings(), whole_set(captions)
    table = [*every, *(t for t in dict.fromkeys(own) if t not in every)]
    if len(table) < 2:
        raise DataError(
            f"all images have the caption {table[0]!r}: to tell texts apart takes two that differ"
        )
    n, rows = len(own), np.arange(len(own))
    number = {t: i for i, t in enumerate(table)}
    true = np.asarray([number[t] for t in own])
    if count == 0 or count >= len(table):
        shift = [_rng(seed, i, 0).integers(1, max(len(table), 2)) for i in range(n)]
        known = len(every) == len(table)
        return Candidates(
            [[t] * n for t in table], true, (true + np.asarray(shift)) % len(table),
            np.asarray(list(every.values())) if known else None,
        )  # fmt: skip
    weight = np.asarray([every.get(t, 0.0) for t in table])
    chosen = [[own[i], *_others(_rng(seed, i, 0), table, weight, int(true[i]), count - 1)]
              for i in rows]  # fmt: skip
    return Candidates(
        [list(column) for column in zip(*chosen, strict=True)],
        np.zeros(n, int), np.ones(n, int), None,
    )  # fmt: skip


def _others(
    rng: np.random.Generator, table: list[str], weight: np.ndarray, true: int, count: int
) -> list[str]:
    p = np.where(np.arange(len(table)) == true, 0.0, weight)
    size = min(count, int((p > 0).sum()))
    picked = rng.choice(len(table), size, replace=False, p=p / p.sum())
    return [table[i] for i in picked]


def wrong(captions: Captions, count: int, seed: int) -> dict[str, list[list[str]]]:
    """Captions that are wrong in one respect, `count` lists `[N]` for each respect.

    One attribute has another value, or two objects have exchanged one; what cannot be
    is left out. An image that has no such caption has an empty text.
    """
    if captions.attributes is None or captions.say is None or not count:
        return {}
    rows = [tuple(v) for v in captions.attributes.tolist()]
    some = {values for values, p in captions.law if p > 0} or set(rows)
    can_be = captions.can_be or some.__contains__
    options = [sorted({v[a] for v in some} - {-1}) for a in range(len(captions.names))]
    say, found = captions.say, {}
    for kind, change in _changes(captions.names, options).items():
        lists: list[list[str]] = [[] for _ in range(count)]
        for i, values in enumerate(rows):
            made = [v for v in change(values) if v != values and can_be(v)]
            order = _rng(seed, i, 1).permutation(len(made))
            for k, texts in enumerate(lists):
                texts.append(say(made[order[k % len(made)]]) if made else "")
        if any(map(any, lists)):
            found[kind] = lists
    return found


_Values = tuple[int, ...]
_Change = Callable[[_Values], list[_Values]]


def _changes(names: Sequence[str], options: list[list[int]]) -> dict[str, _Change]:
    """What can be changed: an attribute, or one that several objects have, between two of them."""

    def another(a: int) -> _Change:
        return lambda v: [(*v[:a], o, *v[a + 1 :]) for o in options[a]] if v[a] >= 0 else []

    def exchanged(a: int, b: int) -> _Change:
        def change(v: _Values) -> list[_Values]:
            if min(v[a], v[b]) < 0:
                return []
            out = list(v)
            out[a], out[b] = v[b], v[a]
            return [tuple(out)]

        return change

    found = {name: another(a) for a, name in enumerate(names)}
    stems = [re.sub(r"\d+$", "", name) for name in names]
    for a, stem in enumerate(stems):
        b = next((b for b in range(a + 1, len(stems)) if stems[b] == stem), None)
        if b is not None:
            found[f"{names[a]} and {names[b]} exchanged"] = exchanged(a, b)
    return found
