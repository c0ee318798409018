"""Reads `.safetensors` files: eight bytes of length, a JSON header, then the numbers.

Nothing is executed, and only the requested tensors are read.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from diffusion_jax.errors import CheckpointError

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
_LONGEST = 64 * 2**20  # largest size of a header, in bytes


_T = TypeVar("_T")


def parts(folder: Path) -> tuple[Path, ...]:
    """The files of the model in a folder: `model.safetensors`, or those listed in its index.

    Raises:
        CheckpointError: the index cannot be read.
    """
    one, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if one.exists() or not index.exists():
        return (one,)

    def named() -> tuple[Path, ...]:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if not names or any(Path(n).name != n for n in names):
            raise ValueError("it must name files in its own folder")
        return tuple(folder / n for n in names)

    return _trying(index, named)


def names(paths: Sequence[Path]) -> frozenset[str]:
    """The names of all tensors in the files.

    Raises:
        CheckpointError: a file cannot be read, or is not a safetensors file.
    """
    return frozenset(name for path in paths for name in _trying(path, lambda p=path: _open(p)[1]))


def read(
    paths: Path | Sequence[Path], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, np.ndarray]:
    """The tensors of a file, or of several, memory-mapped; bfloat16 as float32.

    Args:
        paths: the files.
        shapes: names and shapes of the tensors to read; None for all tensors.

    Raises:
        CheckpointError: a file cannot be read or is not a safetensors file, or a tensor is missing
            or has another shape.
    """
    paths = [paths] if isinstance(paths, Path) else paths
    found: dict[str, np.ndarray] = {}
    for path in paths:

        def tensors(path: Path = path) -> dict[str, np.ndarray]:
            numbers, header = _open(path)
            wanted = header if shapes is None else shapes.keys() & header.keys()
            return {name: _tensor(numbers, name, header, shapes) for name in wanted}

        found |= _trying(path, tensors)
    lacking = [name for name in shapes or () if name not in found]
    if lacking:
        raise CheckpointError(
            f"cannot read {paths[0]}: there is no tensor {lacking[0]}"
            + (f", nor {len(lacking) - 1} others" if len(lacking) > 1 else "")
        )
    return found


def _trying(path: Path, what: Callable[[], _T]) -> _T:
    try:
        return what()
    except OSError as e:
        raise CheckpointError(f"cannot read {path}: {e.strerror or e}") from e
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as e:
        raise CheckpointError(
            f"cannot read {path} as safetensors: {e}; pickles (.bin, .pt) are not read"
        ) from e


def _open(path: Path) -> tuple[np.ndarray, dict]:
    """The raw bytes of a file's tensors, and its header."""
    data = np.memmap(path, np.uint8, "r")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    if not 2 <= length <= min(_LONGEST, data.size - 8):
        raise ValueError("its header is longer than the file")
    header = json.loads(data[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    return data[8 + length :], header


def _tensor(
    numbers: np.ndarray, name: str, header: dict, shapes: Mapping[str, tuple[int, ...]] | None
) -> np.ndarray:
    kind, shape = header[name]["dtype"], tuple(header[name]["shape"])
    if shapes is not None and shape != tuple(shapes[name]):
        raise ValueError(f"tensor {name} has shape {shape}, not {tuple(shapes[name])}")
    lo, hi = header[name]["data_offsets"]
    if kind != "BF16" and kind not in TYPES:
        raise ValueError(f"tensor {name} is {kind}; allowed: BF16, {', '.join(TYPES)}")
    dtype = np.dtype("<u2" if kind == "BF16" else TYPES[kind])
    if not 0 <= lo <= hi <= numbers.size or hi - lo != dtype.itemsize * math.prod(shape):
        raise ValueError(f"tensor {name} goes beyond its place in the file")
    values = np.frombuffer(numbers[lo:hi], dtype)
    if kind == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape)
