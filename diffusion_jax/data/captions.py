"""Captions of images, with one or several wordings for each image.

`datasets/_captions.py` reads caption files, `networks/text_encoders/` tokenises captions,
`networks/layers/text.py` lets a network attend to the tokens, and `experiment/texts.py` prepares
the texts of a run.
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

TEXTS = "texts"  # key of the table `Captions.ids` in a whole split, where it replaces "text"
UNSAID = -2  # an attribute that the example has but a caption does not mention
_NAMED = 3  # number of file names shown in a message


@dataclass(frozen=True)
class Captions:
    """Captions of the examples of a split.

    Attributes:
        table: the K distinct captions.
        index: int32 `[N, M]`, rows of the table for each example, -1 for none. Column 0 is used in
            evaluation; training draws one of the M wordings.
        attributes: int8 `[N, A]`, attributes of each example as numbers, -1 for an absent one; None
            if unknown.
        names: names of the attributes, in the order in which captions mention them.
        say: renders a caption from attribute values. `UNSAID` leaves an attribute out, -1 means
            that the object is absent. None if the data have no attributes.
        again: like `say`, in another wording; None if there is only one.
        law: the distribution of the captions in column 0, as pairs of attribute values and
            probability. Empty if unknown.
        can_be: whether any split may hold an example with these attribute values; None if only
            `law`, or the examples themselves, can tell.
        where: the region, bool `[H, W]`, that shows everything these attributes describe; None if
            unknown.
        says: int16 `[K, A]`, the attributes that each caption of the table mentions, the others
            `UNSAID`. None if unknown: a caption is then assumed to be true only of the images it
            belongs to.
        ids: the table after a text encoder: tokens int32 `[K, L]`, padded with 0, or states float16
            `[K, L, W]`. None before encoding.
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
        """The caption of each example for evaluation; an empty string for none."""
        return [self.table[i] if i >= 0 else "" for i in self.index[:, 0]]

    def rows(self, indices: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
        """Captions of the examples at `indices`, as arrays.

        Returns:
            `"caption"`, rows of the table, int32 `[B, M]`; `"text"` `[B, M, L]`, zeros for missing
            captions, if captions are encoded; `"attributes"` `[B, A]` and `"says"` `[B, M, A]`, if
            `says` is known.
        """
        which = self.index[indices]
        rows = {"caption": which}
        if self.ids is not None:
            present = np.expand_dims(which >= 0, tuple(range(2, 1 + self.ids.ndim)))
            rows["text"] = np.where(present, self.ids[which], 0).astype(self.ids.dtype)
        if self.says is not None:
            assert self.attributes is not None
            rows |= {"attributes": self.attributes[indices], "says": self.says[which]}
        return rows

    def bank(self, most: int) -> dict[str, np.ndarray]:
        """Encoded captions to compare images with: those of column 0, or `most` evenly chosen ones.

        Returns:
            `"text"` `[N, L]`, `"caption"` `[N]`, `"says"` `[N, A]` if known, and `"share"` `[N]`,
            the frequency of each caption in column 0.
        """
        assert self.ids is not None
        first = self.index[:, 0]
        which, counts = np.unique(first[first >= 0], return_counts=True)
        if len(which) > most:
            chosen = np.linspace(0, len(which) - 1, most).round().astype(int)
            which, counts = which[chosen], counts[chosen]
        bank = {"text": self.ids[which], "caption": which.astype(np.int32),
                "share": (counts / counts.sum()).astype(np.float32)}  # fmt: skip
        return bank if self.says is None else {**bank, "says": self.says[which]}

    def part(self, chosen: np.ndarray | slice) -> "Captions":
        """The captions of the `chosen` examples."""
        attributes = None if self.attributes is None else self.attributes[chosen]
        return dataclasses.replace(self, index=self.index[chosen], attributes=attributes)

    def encoded(self, encode: Callable[[Sequence[str]], np.ndarray]) -> "Captions":
        """A copy with `ids` from a text encoder, `strings -> [K, L]` or `[K, L, W]`."""
        return dataclasses.replace(self, ids=encode(self.table))

    def digest(self) -> bytes:
        """SHA-256 of the captions and of their assignment to examples."""
        sha = hashlib.sha256("\0".join(self.table).encode())
        sha.update(np.ascontiguousarray(self.index, np.int32).data)
        return sha.digest()

    def saying(self, said: Collection[int]) -> list[str]:
        """A caption of each example that mentions only the attributes with indices in `said`."""
        assert self.attributes is not None
        assert self.say is not None
        return [self.say(only(values, said)) for values in self.attributes.tolist()]

    def unsaid(self) -> set[frozenset[int]]:
        """Each set of attributes (by index) that some caption leaves out; empty if unknown."""
        if self.says is None:
            return set()
        left_out = np.unique(self.says == UNSAID, axis=0)
        return {frozenset(np.flatnonzero(row).tolist()) for row in left_out if row.any()}

    def unsaid_beside(self, said: Collection[int]) -> set[frozenset[int]]:
        """Each set of attributes (by index) that `saying(said)` leaves out of some caption."""
        assert self.attributes is not None
        left_out = np.unique(self.attributes != -1, axis=0)
        left_out[:, list(said)] = False
        return {frozenset(np.flatnonzero(row).tolist()) for row in left_out if row.any()}

    def entropy(self, said: Collection[int] | None = None) -> float | None:
        """Bits in a caption that mentions the attributes `said` (None: all); None if unknown."""
        if not self.law:
            return None
        mass: Counter = Counter()
        for values, p in self.law:
            mass[values if said is None else tuple(only(values, said))] += p
        return abs(sum(p * math.log2(p) for p in mass.values() if p))


def looked_up(table: Array, which: Array) -> Array:
    """Looks up texts `[B, M, L]` (or `[B, M, L, W]`) by row of the table `[B, M]`; -1 gives 0."""
    present = jnp.expand_dims(which >= 0, tuple(range(which.ndim, which.ndim + table.ndim - 1)))
    return jnp.where(present, table[which], jnp.zeros((), table.dtype))


def conditions(rows: Mapping[str, Array], which: Array | None = None) -> dict[str, Array]:
    """The condition that a guide receives: a caption of each image, and other true facts.

    Args:
        rows: rows of a split: `"label"` `[B]`, and the entries of `Captions.rows` if any.
        which: index of the wording for each image, `[B]`; None for the first.

    Returns:
        `"label"`; if captions are encoded, `"text"` `[B, L]`, `"caption"` `[B]` (-1 for none) and
        `"captions"` `[B, M]`; and, if known, `"attributes"` and `"says"` `[B, A]`.
    """
    cond = {"label": rows["label"]}
    if "text" not in rows:
        return cond

    def one_wording(a: Array) -> Array:
        if which is None:
            return a[:, 0]
        index = which.reshape(-1, *[1] * (a.ndim - 1))
        return jnp.take_along_axis(a, index, axis=1)[:, 0]

    cond |= {k: one_wording(rows[k]) for k in ("text", "caption", "says") if k in rows}
    if "says" in rows:
        cond["attributes"] = rows["attributes"]
    return {**cond, "captions": rows["caption"]}


def only(values: Sequence[int], said: Collection[int]) -> list[int]:
    """Replaces every attribute whose index is not in `said` by `UNSAID`; absent ones stay -1."""
    return [v if v == -1 or i in said else UNSAID for i, v in enumerate(values)]


def captions_of(texts: Sequence[str] | Sequence[Sequence[str]], **more: object) -> Captions:
    """Captions from one text, or equally many texts, for each example; empty texts are missing."""
    rows = [(t,) if isinstance(t, str) else tuple(t) for t in texts]
    flat = [t for row in rows for t in row]
    table = tuple(dict.fromkeys(t for t in flat if t))
    number = {t: i for i, t in enumerate(table)} | {"": -1}
    index = np.asarray([number[t] for t in flat], np.int32).reshape(len(rows), -1)
    return Captions(table, index, **more)  # pyright: ignore[reportArgumentType]


def of_rows(captions: Captions | None, rows: Mapping[str, np.ndarray]) -> Captions | None:
    """The captions of `rows` as read, in which some examples may replace damaged ones."""
    if captions is None:
        return None
    return dataclasses.replace(captions, index=rows["caption"])


def check_captions(where: str, captions: Captions, count: int) -> None:
    """Raises DataError if there are no captions, or not one row for each of `count` examples."""
    index = captions.index
    if not captions.table:
        raise DataError(f"{where}: there are no captions")
    if index.ndim != 2 or len(index) != count or not index.shape[1]:
        raise DataError(
            f"{where}: captions have shape {index.shape}; they must have one row, with one or more "
            f"wordings, for each of {count} images"
        )
    low, high = int(index.min()), int(index.max())
    if low < -1 or high >= len(captions.table):
        wrong = low if low < -1 else high
        raise DataError(f"{where}: there is no caption {wrong} among {len(captions.table)}")


def missing(where: str, what: str, names: Sequence[str]) -> DataError:
    """The error for images without captions, or captions without images."""
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    if len(names) == 1:
        what = what.replace("images have", "image has").replace("captions are", "caption is")
    return DataError(f"{where}: {len(names)} {what}: {shown}")
