"""Captions of images: what each image is said to show, in one or several wordings.

Files of them are read by `datasets/_captions.py`; `networks/text_encoders/` cut them into pieces,
`networks/layers/text.py` lets a network look at these, and `experiment/texts.py` gives a run its
texts.
"""

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import DataError
from diffusion_jax.types import Array

TEXTS = "texts"  # in rows of a whole split: the table of `Captions.ids`, in place of "text"
UNSAID = -2  # an attribute that is there, but not in a caption
_NAMED = 3  # images named of those that lack a caption


@dataclass(frozen=True)
class Captions:
    """Captions of the examples of a split.

    Attributes:
        table: the distinct captions.
        index: int32 `[N, M]`, rows of the table for each example, -1 for none. Column 0 is the one
            to evaluate with; training draws one of the M.
        attributes: int8 `[N, A]`, what an example is in numbers; None where that is not known.
        names: of the attributes, in the order a caption has them.
        say: the caption of attributes of which some are `UNSAID`, or -1: not there; None without
            attributes.
        again: the same in another wording; None where there is one only.
        law: the captions of column 0 are drawn from it, each with its probability: their entropy is
            known. Empty where the law is not.
        can_be: whether there are examples of such attributes, in any split; None where the law, or
            the examples themselves, are all that is known.
        where: the part of an image, bool `[H, W]`, in which all that attributes tell is to be seen;
            None where that is not known.
        says: int16 `[K, A]`, the attributes that each caption of the table tells, the others
            `UNSAID`; None where that is not known: a caption is then true of who has it alone.
        ids: int32 `[K, L]`, the table as a text encoder reads it, 0 for padding; or float16
            `[K, L, W]` of one that has states; None before.
    """

    table: tuple[str, ...]
    index: np.ndarray
    attributes: np.ndarray | None = None
    names: tuple[str, ...] = ()
    say: Callable[[Sequence[int]], str] | None = None
    again: Callable[[Sequence[int]], str] | None = None
    law: tuple[tuple[tuple[int, ...], float], ...] = ()
    can_be: Callable[[tuple[int, ...]], bool] | None = None
    where: Callable[[Sequence[int]], np.ndarray] | None = None
    says: np.ndarray | None = None
    ids: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.index)

    def strings(self) -> list[str]:
        """The caption to evaluate each example with; empty for none."""
        return [self.table[i] if i >= 0 else "" for i in self.index[:, 0]]

    def rows(self, indices: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
        """`{"caption": int32 [B, M]}`, rows of the table, and `"text"`, `[B, M, L]`, if read.

        The text is zeros where there is no caption. Where it is known what captions tell, also
        `"attributes"` `[B, A]` and `"says"` `[B, M, A]`.
        """
        which = self.index[indices]
        found = {"caption": which}
        if self.ids is not None:
            there = np.expand_dims(which >= 0, tuple(range(2, 1 + self.ids.ndim)))
            found["text"] = np.where(there, self.ids[which], 0).astype(self.ids.dtype)
        if self.says is not None:
            assert self.attributes is not None
            found |= {"attributes": self.attributes[indices], "says": self.says[which]}
        return found

    def bank(self, most: int) -> dict[str, np.ndarray]:
        """Captions to hold images against, once read: those of column 0, evenly chosen if many.

        `"text"` `[N, L]`, `"caption"` `[N]`, `"says"` `[N, A]` if known, and `"share"` `[N]`, how
        often each is in column 0.
        """
        assert self.ids is not None
        first = self.index[:, 0]
        which, counts = np.unique(first[first >= 0], return_counts=True)
        if len(which) > most:
            chosen = np.linspace(0, len(which) - 1, most).round().astype(int)
            which, counts = which[chosen], counts[chosen]
        found = {"text": self.ids[which], "caption": which.astype(np.int32),
                 "share": (counts / counts.sum()).astype(np.float32)}  # fmt: skip
        return found if self.says is None else {**found, "says": self.says[which]}

    def part(self, chosen: np.ndarray | slice) -> "Captions":
        """Those of some examples."""
        attributes = None if self.attributes is None else self.attributes[chosen]
        return dataclasses.replace(self, index=self.index[chosen], attributes=attributes)

    def encoded(self, encode: Callable[[Sequence[str]], np.ndarray]) -> "Captions":
        """With the table read by a text encoder, `strings -> [K, L]` or `[K, L, W]`."""
        return dataclasses.replace(self, ids=encode(self.table))

    def digest(self) -> bytes:
        """SHA-256 of captions and of who has which."""
        found = hashlib.sha256("\0".join(self.table).encode())
        found.update(np.ascontiguousarray(self.index, np.int32).data)
        return found.digest()

    def saying(self, said: Collection[int]) -> list[str]:
        """The caption of each example that says these of its attributes, by number, alone."""
        assert self.attributes is not None
        assert self.say is not None
        return [self.say(only(values, said)) for values in self.attributes.tolist()]

    def unsaid(self) -> set[frozenset[int]]:
        """The sets of attributes, by number, that captions leave out together; none if unknown."""
        if self.says is None:
            return set()
        left_out = np.unique(self.says == UNSAID, axis=0)
        return {frozenset(np.flatnonzero(row).tolist()) for row in left_out if row.any()}

    def unsaid_beside(self, said: Collection[int]) -> set[frozenset[int]]:
        """Those that `saying` would leave out."""
        assert self.attributes is not None
        there = np.unique(self.attributes != -1, axis=0)
        there[:, list(said)] = False
        return {frozenset(np.flatnonzero(row).tolist()) for row in there if row.any()}

    def entropy(self, said: Collection[int] | None = None) -> float | None:
        """Bits in a caption that says these attributes, all of them if None; None if not known."""
        if not self.law:
            return None
        mass: Counter = Counter()
        for values, p in self.law:
            mass[values if said is None else tuple(only(values, said))] += p
        return abs(sum(p * math.log2(p) for p in mass.values() if p))


def looked_up(table: Array, which: Array) -> Array:
    """Texts `[B, M, L]` (or `[B, M, L, W]`) by their rows of a table, `[B, M]`; zeros for -1."""
    there = jnp.expand_dims(which >= 0, tuple(range(which.ndim, which.ndim + table.ndim - 1)))
    return jnp.where(there, table[which], jnp.zeros((), table.dtype))


def conditions(rows: Mapping[str, Array], which: Array | None = None) -> dict[str, Array]:
    """What a guide is told of images: a caption of each, and what else is true of them.

    Args:
        rows: of a split, `"label"` `[B]` and perhaps what `Captions.rows` gives.
        which: the wording of each, `[B]`; None for the first.

    Returns:
        `"label"`, and of captions that have been read `"text"` `[B, L]`, `"caption"` `[B]` (-1:
        none), `"captions"` `[B, M]` and, where known, `"attributes"` and `"says"` `[B, A]`.
    """
    found = {"label": rows["label"]}
    if "text" not in rows:
        return found

    def one(a: Array) -> Array:
        if which is None:
            return a[:, 0]
        at = which.reshape(-1, *[1] * (a.ndim - 1))
        return jnp.take_along_axis(a, at, axis=1)[:, 0]

    found |= {k: one(rows[k]) for k in ("text", "caption", "says") if k in rows}
    more = {"attributes": rows["attributes"]} if "says" in rows else {}
    return {**found, **more, "captions": rows["caption"]}


def only(values: Sequence[int], said: Collection[int]) -> list[int]:
    """Attributes of which those whose numbers are not in `said` are unsaid."""
    return [v if v == -1 or i in said else UNSAID for i, v in enumerate(values)]


def captions_of(texts: Sequence[str] | Sequence[Sequence[str]], **more: object) -> Captions:
    """Captions from one text for each example, or from equally many; an empty text is none."""
    rows = [(t,) if isinstance(t, str) else tuple(t) for t in texts]
    flat = [t for row in rows for t in row]
    table = tuple(dict.fromkeys(t for t in flat if t))
    number = {t: i for i, t in enumerate(table)} | {"": -1}
    index = np.asarray([number[t] for t in flat], np.int32).reshape(len(rows), -1)
    return Captions(table, index, **more)  # pyright: ignore[reportArgumentType]


def of_rows(captions: Captions | None, rows: Mapping[str, np.ndarray]) -> Captions | None:
    """The captions that belong to rows that were read, of which some may replace damaged ones."""
    if captions is None:
        return None
    return dataclasses.replace(captions, index=rows["caption"])


def check_captions(where: str, captions: Captions, count: int) -> None:
    """Raises DataError unless there are captions, one row for each of `count` examples."""
    index = captions.index
    if not captions.table:
        raise DataError(f"{where}: there are no captions")
    if index.ndim != 2 or len(index) != count or not index.shape[1]:
        raise DataError(
            f"{where}: captions have shape {index.shape}; they must be one row, of one or more "
            f"wordings, for each of {count} images"
        )
    low, high = int(index.min()), int(index.max())
    if low < -1 or high >= len(captions.table):
        wrong = low if low < -1 else high
        raise DataError(f"{where}: caption {wrong} is not among {len(captions.table)}")


def missing(where: str, what: str, names: Sequence[str]) -> DataError:
    """What to say of images without captions, or of captions without images."""
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    if len(names) == 1:
        what = what.replace("images have", "image has").replace("captions are", "caption is")
    return DataError(f"{where}: {len(names)} {what}: {shown}")
