"""Description of a run's data: kept in checkpoints, and printed when training starts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffusion_jax.data.base import Source, Split, brief
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.runtime.formatting import examples

_NAMED = 20  # largest number of classes listed by name when training starts


def describe(source: Source, split: Split) -> dict[str, Any]:
    """Describes a run's data, in JSON types, for its checkpoints."""
    counts = np.bincount(split.labels, minlength=split.num_classes) if split.num_classes else []
    return {
        "name": split.name,
        "images": len(split),
        **({} if source.medium is IMAGE else {"medium": source.medium.name}),
        "sketch": split.sketch(),
        "classes": list(source.classes),
        "counts": [int(n) for n in counts],
        "captions": len(split.captions.table) if split.captions else 0,
        "notes": list(source.notes),
        **({"scale": [list(pair) for pair in source.scale]} if source.scale else {}),
        **({"attribution": source.attribution} if source.attribution else {}),
    }


def as_lines(record: Mapping[str, Any]) -> list[str]:
    """The result of `describe` as lines of text: classes in order with counts, and notes."""
    names, counts = record["classes"], record["counts"]
    lines, many = list(record["notes"]), examples(record)
    if counts and names == [str(i) for i in range(len(counts))]:  # names without information
        names = []
    if counts and len(names) == len(counts) <= _NAMED:
        each = (f"{i} {n} ({k})" for i, (n, k) in enumerate(zip(names, counts, strict=True)))
        lines.append(f"classes, with their {many}: {', '.join(each)}")
    elif counts:
        least, most = min(counts), max(counts)
        size = f"{least}" if least == most else f"{least} .. {most}"
        lines.append(f"{len(counts)} class{'es' * (len(counts) > 1)} of {size} {many}")
    if record.get("captions"):
        lines.append(f"{record['captions']} different captions")
    if record.get("attribution"):
        lines.append(record["attribution"])
    return lines


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How two results of `describe` differ, as text; empty if they agree."""
    # Names first: they decide which split a file falls into, so they can change counts too.
    for what in ("classes", "images", "counts"):
        if before.get(what, now[what]) != now[what]:
            return f"{what} were {brief(before[what])}, and are {brief(now[what])} now"
    same = before.get("sketch", now["sketch"]) == now["sketch"]
    return "" if same else "pixels, labels, captions or file names have changed"
