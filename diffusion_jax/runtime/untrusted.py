"""Reads untrusted files: pickles without executing code, arrays without excessive allocations.

Sizes declared in a header are compared with the size of the file before memory is allocated.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

_DEFLATE = 1032  # deflate expands no byte to more than this many
_SPARE = 1 << 20  # allowed memo index of a pickle beyond its number of opcodes
_SHOWN = 20  # largest number of array names in a message
_NPY = b"\x93NUMPY"  # the first bytes of an npy file
_TEXT = 200  # largest number of characters quoted from another library's message


class Malformed(ValueError):
    """Malformed or unexpected file content."""


def reason(e: Exception) -> str:
    """A one-line description of an exception raised while reading damaged data."""
    text = (str(e).splitlines() or [""])[0]
    if isinstance(e, (OSError, Malformed)) and text:
        return text
    return f"{type(e).__name__}: {text[:_TEXT]}"


class Call:
    """A function that a pickle may call, but not modify: the BUILD opcode sets attributes."""

    __slots__ = ("_function",)
    _function: Callable

    def __init__(self, function: Callable):
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        """Calls the function."""
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


def unpickle(
    file: io.BytesIO,
    names: Mapping[tuple[str, str], Any],
    storage: Callable[[Any], Any] | None = None,
    encoding: str = "latin1",
) -> Any:
    """Reads one pickle without importing anything.

    Args:
        file: the file, read from its current position to the end of the pickle.
        names: replacements for `(module, name)`: `Call`s and constants, never another library's
            class or function. All other names are rejected.
        storage: resolves persistent ids; by default they are rejected.
        encoding: encoding of Python 2 strings.

    Raises:
        Malformed: the pickle is damaged, or uses another name.
    """
    start = file.tell()
    try:
        _check_opcodes(file)
        file.seek(start)
        return _Unpickler(file, names, storage, encoding).load()
    except Malformed:
        raise
    except Exception as e:  # a damaged pickle may raise anything
        raise Malformed(f"the pickle is damaged ({reason(e)})") from e


def _check_opcodes(file: io.BytesIO) -> None:
    """Rejects lengths beyond the file's end and huge memo indices, which C would allocate."""
    for count, (code, arg, _) in enumerate(pickletools.genops(file)):
        if code.name.endswith("PUT") and int(arg) > count + _SPARE:
            raise Malformed("the pickle is damaged (an object's index is far too large)")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, names: Mapping, storage: Callable | None, encoding: str):
        super().__init__(file, encoding=encoding)
        self._names, self._storage = names, storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise Malformed(f"it uses {module[:_TEXT]}.{name[:_TEXT]}, which is not an array")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if self._storage is None:
            raise Malformed("it refers to something outside the file")
        return self._storage(pid)


def array(raw: bytes | memoryview, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
    """A read-only array over `raw`, whose size must match exactly.

    Args:
        dtype: a type of plain numbers.
        order: `"C"` or `"F"`.

    Raises:
        Malformed: the type is not numeric, or the shape has another size.
    """
    dtype, shape = np.dtype(dtype), tuple(shape)
    if dtype.kind not in "biuf":
        raise Malformed(f"it holds {str(dtype)[:_TEXT]}, not plain numbers")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise Malformed("an array has a malformed shape")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise Malformed(f"an array of shape {shape} does not fit its {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


def npz(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an npz file.

    Raises:
        OSError: the file cannot be read.
        Malformed: it is damaged, contains objects, or declares more data than it contains.
    """
    try:
        with zipfile.ZipFile(file) as z:
            members = z.infolist()
            check_members(z, members)
            return {m.filename.removesuffix(".npy"): member(z, m) for m in members}
    except (OSError, Malformed):
        raise
    except Exception as e:  # zipfile, zlib and numpy raise many types for damaged files
        file.seek(0)
        if file.read(len(_NPY)) == _NPY:
            raise Malformed("it is a single array (npy): save it with np.savez, by name") from e
        raise Malformed(reason(e)) from e


def need(arrays: Mapping[str, np.ndarray], *names: str) -> None:
    """Raises `Malformed` if any of these arrays is missing; the message lists those present."""
    absent = [repr(n) for n in names if n not in arrays]
    if absent:
        present = ", ".join(repr(n[:_TEXT]) for n in [*arrays][:_SHOWN]) or "none"
        what = f"array{'s' * (len(absent) > 1)} {', '.join(absent)}"
        raise Malformed(f"it has no {what}; arrays in the file: {present}")


def check_members(z: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Raises `Malformed` if a zip file declares more data than its size allows."""
    assert z.fp is not None
    size = z.fp.seek(0, io.SEEK_END)
    if sum(m.compress_size for m in members) > size:
        raise Malformed("its parts declare more bytes than the file has")
    for m in members:
        stored = m.compress_type == zipfile.ZIP_STORED
        if not stored and m.compress_type != zipfile.ZIP_DEFLATED:
            raise Malformed(f"{m.filename[:_TEXT]} is compressed in an unknown way")
        if m.file_size > m.compress_size * (1 if stored else _DEFLATE):
            raise Malformed(f"{m.filename[:_TEXT]} declares more bytes than the file can hold")


def member(z: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array of an npz file that has passed `check_members`."""
    with z.open(info) as f:
        npy_header(f, info.file_size)
    with z.open(info) as f:
        return np.lib.format.read_array(f, allow_pickle=False)


def npy_header(f: Any, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type of an npy file of `size` bytes; leaves `f` at the data.

    Raises:
        Malformed: it contains objects, or fewer bytes than it declares.
    """
    start = f.tell()
    version = np.lib.format.read_magic(f)
    if version not in ((1, 0), (2, 0)):
        raise Malformed(f"npy version {version[0]}.{version[1]}; 1.0 and 2.0 are read")
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, fortran, dtype = read(f)
    if dtype.hasobject:
        raise Malformed("it contains Python objects, not numbers")
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or needed > size - (f.tell() - start):
        raise Malformed(f"an array of shape {shape} does not fit its {size} bytes")
    return shape, fortran, dtype
