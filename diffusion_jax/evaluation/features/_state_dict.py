"""PyTorch state dicts without PyTorch, and without executing what a file asks for.

A .pth file is a pickle, which could run any code. The reader below knows the handful of names a
state dict consists of and refuses every other one.
"""

import io
import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion_jax.errors import CheckpointError

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file written before torch 1.6
# What reading damaged files raises.
_DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError,
            RuntimeError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile)  # fmt: skip


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name from a .pth, .pt, .safetensors or .npz file.

    Args:
        path: the file; its content decides about the format.

    Returns:
        The arrays, as stored.

    Raises:
        CheckpointError: the file is unreadable, or asks for anything but arrays.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as f:
                names = f.namelist()
                if any(name.endswith("data.pkl") for name in names):
                    return _plain(_zip(f, names))
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as f:
                return dict(f)
        data = path.read_bytes()
        return _safetensors(data) if path.suffix == ".safetensors" else _plain(_legacy(data))
    except CheckpointError as e:
        raise CheckpointError(f"cannot read {path}: {e}") from e
    except _DAMAGED as e:
        reason = e if isinstance(e, OSError) else f"it is no state dict, or damaged ({e})"
        raise CheckpointError(
            f"cannot read {path}: {reason}; allowed are .pth, .safetensors and .npz"
        ) from e


class _Tensor(NamedTuple):
    """A view into a storage that may not have been read yet."""

    storage: Callable[[], np.ndarray]
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        """A copy of the view, which must lie inside the storage."""
        base = self.storage()
        sides = list(zip(self.shape, self.stride, strict=True))
        if min([self.offset, *self.shape, *self.stride]) < 0:
            raise ValueError("a tensor has negative offsets")
        last = self.offset + sum((n - 1) * s for n, s in sides)
        if math.prod(self.shape) and last >= len(base):
            raise ValueError("a tensor reaches beyond its storage")
        strides = tuple(s * base.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(base[self.offset :], self.shape, strides).copy()


def _rebuild(storage: Callable, offset: int, shape: tuple, stride: tuple, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


class _Unpickler(pickle.Unpickler):
    """Reads a state dict; `storage(type, key)` gives the numbers."""

    def __init__(self, file: Any, storage: Callable | None = None):
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """The few names that are allowed; nothing is imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"),
                              ("torch._utils", "_rebuild_tensor")):  # fmt: skip
            return _rebuild
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _STORAGES:
            return np.dtype(_STORAGES[name])
        raise CheckpointError(f"it asks for {module}.{name}, which a state dict does not need")

    def persistent_load(self, pid: Any) -> Any:
        """A storage, by its record `("storage", type, key, device, length, ...)`."""
        return self._storage(pid[1], str(pid[2]))


def _zip(file: zipfile.ZipFile, names: list[str]) -> Any:
    top = next(name for name in names if name.endswith("data.pkl")).removesuffix("data.pkl")
    order = f"{top}byteorder"
    if order in names and file.read(order) != b"little":
        raise ValueError("big-endian numbers")

    def storage(dtype: np.dtype, key: str) -> Callable:
        return lambda: np.frombuffer(file.read(f"{top}data/{key}"), dtype)

    return _Unpickler(io.BytesIO(file.read(f"{top}data.pkl")), storage).load()


def _legacy(data: bytes) -> Any:
    """Five pickles (magic, version, system, state dict, keys), then each key's numbers."""
    file = io.BytesIO(data)
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise ValueError("no PyTorch file")
    _Unpickler(file).load()  # version of the format
    _Unpickler(file).load()  # about the machine
    types: dict[str, np.dtype] = {}
    numbers: dict[str, np.ndarray] = {}

    def storage(dtype: np.dtype, key: str) -> Callable:
        types[key] = dtype
        return lambda: numbers[key]

    found = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        dtype = types[str(key)]
        numbers[str(key)] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return found


def _safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Eight bytes of header length, a JSON header, then the numbers."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        lo, hi = entry["data_offsets"]
        numbers = data[8 + length + lo : 8 + length + hi]
        array = np.frombuffer(numbers, _SAFETENSORS[entry["dtype"]])
        out[name] = array.reshape(entry["shape"])
    return out


def _plain(found: Any) -> dict[str, np.ndarray]:
    """A state dict's tensors as arrays, while what they are read from is open."""
    values = {k: v.array() if isinstance(v, _Tensor) else v for k, v in dict(found).items()}
    if not values or not all(isinstance(v, np.ndarray) for v in values.values()):
        raise CheckpointError("it holds something else than a state dict of arrays")
    return values
