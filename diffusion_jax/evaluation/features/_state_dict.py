"""Reads PyTorch state dicts without PyTorch, and without executing code from the file.

A .pth file is a pickle, which could run any code. This reader allows only the few names that occur
in a state dict.
"""

import io
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion_jax.errors import CheckpointError
from diffusion_jax.runtime import safetensors, untrusted
from diffusion_jax.runtime.untrusted import Call, Malformed

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file written before torch 1.6


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name from a .pth, .pt, .safetensors or .npz file.

    Raises:
        CheckpointError: the file is unreadable, or holds anything other than arrays.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as f:
                if any(name.endswith("data.pkl") for name in f.namelist()):
                    return _plain(_zip(f))
            with path.open("rb") as raw:
                return untrusted.npz(raw)
        if path.suffix == ".safetensors":
            return safetensors.read(path)
        return _plain(_legacy(path.read_bytes()))
    except OSError as e:
        raise CheckpointError(f"cannot read {path}: {e}") from e
    except Exception as e:  # damaged files raise nearly everything
        raise CheckpointError(
            f"cannot read {path}: it is not a state dict, or damaged ({untrusted.reason(e)}); "
            "allowed: .pth, .pt, .safetensors, .npz"
        ) from e


class _Tensor(NamedTuple):
    """A view into a storage that may not have been read yet."""

    storage: Callable[[], np.ndarray]
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The array; raises Malformed if it leaves the storage or uses an element twice."""
        base = self.storage()
        sides = [(n, s) for n, s in zip(self.shape, self.stride, strict=True) if n != 1]
        numbers = [self.offset, *self.shape, *self.stride]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise Malformed("a tensor has negative offsets")
        if 0 in self.shape:
            return np.zeros(self.shape, base.dtype)
        reach = 1
        for n, s in sorted(sides, key=lambda side: side[1]):
            if s < reach:
                raise Malformed("a tensor uses elements of its storage twice")
            reach = (n - 1) * s + reach
        if self.offset + reach > len(base):
            raise Malformed("a tensor reaches beyond its storage")
        strides = tuple(s * base.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(
            base[self.offset :], self.shape, strides, writeable=False
        )


def _rebuild(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise Malformed("a tensor without a storage")
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


class _Storage(NamedTuple):
    """Reads the elements of a storage when called."""

    read: Callable[[], np.ndarray]

    def __call__(self) -> np.ndarray:
        return self.read()


_NAMES = {
    ("collections", "OrderedDict"): Call(OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2"): Call(_rebuild),
    ("torch._utils", "_rebuild_tensor"): Call(_rebuild),
    ("torch._utils", "_rebuild_parameter"): Call(lambda tensor, *_: tensor),
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


def _pickled(file: io.BytesIO, storage: Callable[[np.dtype, str], Callable] | None = None) -> Any:
    """Reads one pickle; `storage(type, key)` returns a function that reads a storage."""

    def load_storage(pid: Any) -> Any:
        """The storage for a record `("storage", type, key, device, length, ...)`."""
        if storage is None or pid[1] not in _STORAGES.values():
            raise Malformed("a storage has an unknown type")
        return _Storage(storage(np.dtype(pid[1]), str(pid[2])))

    return untrusted.unpickle(file, _NAMES, load_storage, encoding="utf-8")


def _zip(file: zipfile.ZipFile) -> Any:
    names = file.namelist()
    untrusted.check_members(file, file.infolist())
    top = next(name for name in names if name.endswith("data.pkl")).removesuffix("data.pkl")
    order = f"{top}byteorder"
    if order in names and file.read(order) != b"little":
        raise Malformed("big-endian numbers")
    cache: dict[tuple[str, np.dtype], np.ndarray] = {}

    def storage(dtype: np.dtype, key: str) -> Callable:
        def elements() -> np.ndarray:
            if (key, dtype) not in cache:
                cache[key, dtype] = np.frombuffer(file.read(f"{top}data/{key}"), dtype)
            return cache[key, dtype]

        return elements

    return _pickled(io.BytesIO(file.read(f"{top}data.pkl")), storage)


def _legacy(data: bytes) -> Any:
    """Five pickles (magic, version, system, state dict, keys), then each key's elements."""
    file = io.BytesIO(data)
    if _pickled(file) != _LEGACY_MAGIC:
        raise Malformed("not a PyTorch file")
    _pickled(file)  # format version
    _pickled(file)  # system information
    types: dict[str, np.dtype] = {}
    elements: dict[str, np.ndarray] = {}

    def storage(dtype: np.dtype, key: str) -> Callable:
        types[key] = dtype
        return lambda: elements[key]

    state = _pickled(file, storage)
    for key in _pickled(file):
        dtype = types[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        if not 0 <= count * dtype.itemsize <= len(data) - file.tell():
            raise Malformed("a storage extends beyond the end of the file")
        elements[str(key)] = np.frombuffer(data, dtype, count, file.tell())
        file.seek(count * dtype.itemsize, io.SEEK_CUR)
    return state


def _plain(state: Any) -> dict[str, np.ndarray]:
    """Reads a state dict's tensors into arrays; the file must still be open."""
    values = {k: v.array() if isinstance(v, _Tensor) else v for k, v in dict(state).items()}
    if not values or not all(isinstance(v, np.ndarray) for v in values.values()):
        raise Malformed("it is not a state dict of arrays")
    return values
