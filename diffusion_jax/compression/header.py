"""The header of a compressed file, checked against the rest of the file before decoding.

Checksums do not show who wrote a file, and every number here determines memory use.
"""

import itertools
import math
import re
from typing import Any

from diffusion_jax.compression.bits_back import ORDERS
from diffusion_jax.compression.container import Group
from diffusion_jax.compression.rans import PER_LANE
from diffusion_jax.errors import CodecError

TIMESTEPS = 100_000  # the most that a chain or a file may have
_CLASSES = ("", "coded", "null class")
_REST = ("", "null text", "null vector", "null text and vector")
# What the network is conditioned on: labels, and null texts or CLIP vectors if it reads them.
LABELS = tuple(
    ", ".join(filter(None, both)) or "none" for both in itertools.product(_CLASSES, _REST)
)
_COUNTS = {"images", "levels", "timesteps", "batch", "group", "groups"}
_TEXTS = {"schedule", "model", "weights", "sha256"}
_BITS = 63  # bits of a seed
_LARGEST = 200.0  # magnitude of a gamma: a noise-to-signal ratio of e^100 or e^-100


def check(
    header: dict[str, Any], groups: list[Group], shape: tuple[int, ...], values: int, name: str
) -> None:
    """Checks that a header is complete and consistent with its file and the model.

    Args:
        header: the header of the file.
        groups: the coded images of the file.
        shape: shape of the model's images.
        values: the most values that an image or any of its latents has, `Coder.lanes`.
        name: name of the file in messages.

    Raises:
        CodecError: a field is missing, has a wrong type, or claims more than the file contains.
    """

    def need(right: bool, problem: str) -> None:
        if not right:
            raise CodecError(f"{name} has an inconsistent header ({problem}); get another copy")

    missing = sorted((_COUNTS | _TEXTS | {"shape", "order", "labels", "step", "seed", "machine"})
                     - header.keys())  # fmt: skip
    need(not missing, f"{', '.join(missing)} missing")
    for key in sorted(_COUNTS):
        need(type(header[key]) is int and header[key] > 0, f"{key} is not a positive number")
    for key in sorted(_TEXTS):
        need(isinstance(header[key], str), f"{key} is not a text")
    need(type(header["step"]) is int, "step is not a number")
    seed = header["seed"]
    need(type(seed) is int and 0 <= seed < 1 << _BITS, f"seed is not in 0 .. 2^{_BITS} - 1")
    need(header["order"] in tuple(ORDERS), f"order is not one of {', '.join(ORDERS)}")
    need(header["labels"] in LABELS, f"labels is not one of {'; '.join(LABELS)}")
    need(isinstance(header["machine"], dict), "machine is not a table")
    need(re.fullmatch("[0-9a-f]{64}", header["sha256"]) is not None, "sha256 is not a SHA-256")
    need(header["timesteps"] <= TIMESTEPS, f"more than {TIMESTEPS} timesteps")
    need(_gammas(header.get("gammas", []), header["timesteps"]), "gammas do not increase")
    names = header.get("names", [])
    need(isinstance(names, list) and all(isinstance(n, str) for n in names), "names are not texts")
    need(len(names) in (0, header["images"]), "not one name for each image")
    if header["shape"] != list(shape):
        raise CodecError(f"{name} contains images of shape {_short(header['shape'])}; this "
                         f"model's are {list(shape)}")  # fmt: skip
    images, batch, group = header["images"], header["batch"], header["group"]
    need(group % batch == 0, "a group is not a whole number of batches")
    need(len(groups) == math.ceil(images / group), "the number of groups does not fit the images")
    lanes = math.ceil(values / PER_LANE)
    for number, coded in enumerate(groups):
        count = min(group, images - number * group)
        rows = min(batch, count)
        need(coded.heads.shape == (rows, lanes), f"group {number + 1} is not {rows} x {lanes}")
        size = 64 * rows * lanes + 16 * len(coded.tail) + 32 * len(coded.symbols)
        need(count <= size, f"group {number + 1} has more images than bits")


def _gammas(plans: Any, timesteps: int) -> bool:
    """Whether `plans` is a list, maybe empty, of `timesteps + 1` increasing gammas per chain."""
    return isinstance(plans, list) and all(
        isinstance(plan, list)
        and len(plan) == timesteps + 1
        and all(type(g) is float and abs(g) <= _LARGEST for g in plan)
        and all(a < b for a, b in itertools.pairwise(plan))
        for plan in plans
    )


def _short(value: Any) -> str:
    return str(value)[:40]
