"""Captions to compare with an image's own: wrong ones, and those of other images.

All random choices are functions of (seed, index of the image).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.data.captions import Captions
from diffusion_jax.errors import DataError


@dataclass(frozen=True)
class Candidates:
    """Captions that each image is compared with.

    Attributes:
        texts: M candidates for each of N images, `[M][N]`.
        true: index of the image's own caption, `[N]`.
        other: index of a random other caption, `[N]`.
        probability: probability of each caption, `[M]`; None unless the candidates are all captions
            that exist.
    """

    texts: list[list[str]]
    true: np.ndarray
    other: np.ndarray
    probability: np.ndarray | None


def _rng(seed: int, image: int, what: int) -> np.random.Generator:
    return np.random.default_rng([seed, image, what])


def whole_set(captions: Captions) -> dict[str, float]:
    """All captions with their probabilities, uniform if their distribution is unknown."""
    if captions.law and captions.say is not None:
        mass: dict[str, float] = {}
        for values, p in captions.law:
            text = captions.say(values)
            mass[text] = mass.get(text, 0.0) + p
        return {t: p for t, p in mass.items() if p > 0}
    distinct = dict.fromkeys(t for t in captions.strings() if t)
    return dict.fromkeys(distinct, 1.0 / len(distinct))


def candidates(captions: Captions, count: int, seed: int) -> Candidates:
    """An image's own caption among `count` candidates; `count` 0 means all captions.

    Raises:
        DataError: all images have the same caption.
    """
    true_texts, probabilities = captions.strings(), whole_set(captions)
    table = [*probabilities, *(t for t in dict.fromkeys(true_texts) if t not in probabilities)]
    if len(table) < 2:
        raise DataError(
            f"all images have the caption {table[0]!r}: at least two different ones are needed"
        )
    n = len(true_texts)
    number = {t: i for i, t in enumerate(table)}
    true = np.asarray([number[t] for t in true_texts])
    if count == 0 or count >= len(table):
        shift = [_rng(seed, i, 0).integers(1, max(len(table), 2)) for i in range(n)]
        complete = len(probabilities) == len(table)
        return Candidates(
            [[t] * n for t in table], true, (true + np.asarray(shift)) % len(table),
            np.asarray(list(probabilities.values())) if complete else None,
        )  # fmt: skip
    weight = np.asarray([probabilities.get(t, 0.0) for t in table])
    chosen = [
        [true_texts[i], *_others(_rng(seed, i, 0), table, weight, int(true[i]), count - 1)]
        for i in range(n)
    ]
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
    """Captions with one mistake: for each kind of mistake, `count` lists `[N]`.

    Either one attribute has another value, or two objects have exchanged an attribute. Impossible
    combinations are left out. The text is empty if an image has no such caption.
    """
    if captions.attributes is None or captions.say is None or not count:
        return {}
    rows = [tuple(v) for v in captions.attributes.tolist()]
    examples = {values for values, p in captions.law if p > 0} or set(rows)
    can_be = captions.can_be or examples.__contains__
    options = [sorted({v[a] for v in examples} - {-1}) for a in range(len(captions.names))]
    say, negatives = captions.say, {}
    for kind, change in _changes(captions.names, options).items():
        lists: list[list[str]] = [[] for _ in range(count)]
        for i, values in enumerate(rows):
            possible = [v for v in change(values) if v != values and can_be(v)]
            order = _rng(seed, i, 1).permutation(len(possible))
            for k, texts in enumerate(lists):
                texts.append(say(possible[order[k % len(possible)]]) if possible else "")
        if any(map(any, lists)):
            negatives[kind] = lists
    return negatives


_Values = tuple[int, ...]
_Change = Callable[[_Values], list[_Values]]


def _changes(names: Sequence[str], options: list[list[int]]) -> dict[str, _Change]:
    """Functions that change one attribute, or exchange it between two objects, by name."""

    def replace(a: int) -> _Change:
        return lambda v: [(*v[:a], o, *v[a + 1 :]) for o in options[a]] if v[a] >= 0 else []

    def exchange(a: int, b: int) -> _Change:
        def change(v: _Values) -> list[_Values]:
            if min(v[a], v[b]) < 0:
                return []
            out = list(v)
            out[a], out[b] = v[b], v[a]
            return [tuple(out)]

        return change

    changes = {name: replace(a) for a, name in enumerate(names)}
    stems = [re.sub(r"\d+$", "", name) for name in names]
    for a, stem in enumerate(stems):
        b = next((b for b in range(a + 1, len(stems)) if stems[b] == stem), None)
        if b is not None:
            changes[f"{names[a]} and {names[b]} exchanged"] = exchange(a, b)
    return changes
