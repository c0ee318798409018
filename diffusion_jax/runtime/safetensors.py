"""Tensors of a `.safetensors` file: eight bytes of length, a JSON header, then the numbers.

Nothing is executed, and of a large file only what is asked for is read.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffusion_jax.errors import CheckpointError

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
_LONGEST = 64 * 2**20  # bytes of a header


def read(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, np.ndarray]:
    """The tensors of a file, memory-mapped; bfloat16 as float32.

    Args:
        path: the file.
        shapes: what is needed, with its shapes; all there is if None.

    Raises:
        CheckpointError: it cannot be read, is something else, or a tensor is missing or of another
            shape.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
        (length,) = struct.unpack("<Q", data[:8].tobytes())
        if not 2 <= length <= min(_LONGEST, data.size - 8):
            raise ValueError("its header is longer than the file")
        header = json.loads(data[8 : 8 + length].tobytes())
        header.pop("__metadata__", None)
        wanted = header if shapes is None else shapes
        return {name: _tensor(data[8 + length :], name, header, shapes) for name in wanted}
    except OSError as e:
        raise CheckpointError(f"cannot read {path}: {e.strerror or e}") from e
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as e:
        raise CheckpointError(
            f"cannot read {path} as safetensors: {e}; pickles (.bin, .pt) are not read"
        ) from e


def _tensor(
    numbers: np.ndarray, name: str, header: dict, shapes: Mapping[str, tuple[int, ...]] | None
) -> np.ndarray:
    if name not in header:
        raise ValueError(f"there is no tensor {name}")
    kind, shape = header[name]["dtype"], tuple(header[name]["shape"])
    if shapes is not None and shape != tuple(shapes[name]):
        raise ValueError(f"tensor {name} has shape {shape}, not {tuple(shapes[name])}")
    lo, hi = header[name]["data_offsets"]
    if kind != "BF16" and kind not in TYPES:
        raise ValueError(f"tensor {name} is {kind}; allowed are BF16, {', '.join(TYPES)}")
    dtype = np.dtype("<u2" if kind == "BF16" else TYPES[kind])
    if not 0 <= lo <= hi <= numbers.size or hi - lo != dtype.itemsize * math.prod(shape):
        raise ValueError(f"tensor {name} goes beyond its place in the file")
    found = np.frombuffer(numbers[lo:hi], dtype)
    if kind == "BF16":
        found = (found.astype(np.uint32) << 16).view(np.float32)
    return found.reshape(shape)
