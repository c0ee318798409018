"""The header of a compressed file, held against the rest of the file before anything is decoded.

A checksum says that a file is whole, not who wrote it: every number here decides about memory.
"""

import itertools
import math
import re
from typing import Any

from diffusion_jax.compression.bits_back import ORDERS
from diffusion_jax.compression.container import Group
from diffusion_jax.compression.rans import PER_LANE
from diffusion_jax.errors import CodecError

TIMESTEPS = 100_000  # a chain is made, and a file accepted, with at most so many
_CLASSES = ("", "coded", "null class")
_REST = ("", "null text", "null vector", "null text and vector")
# What the network is told: of labels, and nothing of a text or of what a CLIP sees, if it reads it.
LABELS = tuple(
    ", ".join(filter(None, both)) or "none" for both in itertools.product(_CLASSES, _REST)
)
_COUNTS = {"images", "levels", "timesteps", "batch", "group", "groups"}
_TEXTS = {"schedule", "model", "weights", "sha256"}
_BITS = 63  # of a seed
_STEEPEST = 200.0  # a gamma: noise of e^-100 of the signal


def check(
    header: dict[str, Any], groups: list[Group], shape: tuple[int, ...], values: int, name: str
) -> None:
    """Refuses a header that does not fit its file.

    Args:
        shape: of the images that the model makes.
        values: the most that an image, or any of its latents, has: `Coder.lanes`.
        name: what messages call the file.

    Raises:
        CodecError: a field is missing, has a wrong type, or promises more than the file holds.
    """

    def need(right: bool, what: str) -> None:
        if not right:
            raise CodecError(f"{name} has a header that does not fit it ({what}); get another copy")

    missing = sorted((_COUNTS | _TEXTS | {"shape", "order", "labels", "step", "seed", "machine"})
                     - header.keys())  # fmt: skip
    need(not missing, f"without {', '.join(missing)}")
    for key in sorted(_COUNTS):
        need(type(header[key]) is int and header[key] > 0, f"{key} is not a positive number")
    for key in sorted(_TEXTS):
        need(isinstance(header[key], str), f"{key} is not a text")
    need(type(header["step"]) is int, "step is not a number")
    seed = header["seed"]
    need(type(seed) is int and 0 <= seed < 1 << _BITS, f"seed is not in 0 .. 2^{_BITS} - 1")
    need(header["order"] in tuple(ORDERS), f"order is none of {', '.join(ORDERS)}")
    need(header["labels"] in LABELS, f"labels is none of {'; '.join(LABELS)}")
    need(isinstance(header["machine"], dict), "machine is not a table")
    need(re.fullmatch("[0-9a-f]{64}", header["sha256"]) is not None, "sha256 is no such digest")
    need(header["timesteps"] <= TIMESTEPS, f"more than {TIMESTEPS} timesteps")
    need(_gammas(header.get("gammas", []), header["timesteps"]), "gammas are no rising plans")
    names = header.get("names", [])
    need(isinstance(names, list) and all(isinstance(n, str) for n in names), "names are not texts")
    need(len(names) in (0, header["images"]), "not one name for each image")
    if header["shape"] != list(shape):
        raise CodecError(f"{name} holds images of shape {_short(header['shape'])}; this model's "
                         f"are {list(shape)}")  # fmt: skip
    images, batch, group = header["images"], header["batch"], header["group"]
    need(group % batch == 0, "a group is not whole batches")
    need(len(groups) == math.ceil(images / group), "not as many groups as the images need")
    lanes = math.ceil(values / PER_LANE)
    for number, found in enumerate(groups):
        count = min(group, images - number * group)
        rows = min(batch, count)
        need(found.heads.shape == (rows, lanes), f"group {number + 1} is not {rows} x {lanes}")
        size = 64 * rows * lanes + 16 * len(found.tail) + 32 * len(found.symbols)
        need(count <= size, f"group {number + 1} has more images than bits")


def _gammas(found: Any, timesteps: int) -> bool:
    """Whether this is, for each chain, `timesteps + 1` gammas that rise; none at all will do."""
    return isinstance(found, list) and all(
        isinstance(plan, list)
        and len(plan) == timesteps + 1
        and all(type(g) is float and abs(g) <= _STEEPEST for g in plan)
        and all(a < b for a, b in itertools.pairwise(plan))
        for plan in found
    )


def _short(value: Any) -> str:
    return str(value)[:40]
