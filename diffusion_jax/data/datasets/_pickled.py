"""Reads pickled dicts of arrays without numpy's unpickling, which can be made to run code.

Allowing `numpy.ndarray` by name is not safe: an object array over a forged buffer takes any number
for the address of an object. Here arrays are built from bytes, a shape and a plain type.
"""

import io
import re
from typing import Any

import numpy as np

from diffusion_jax.runtime.untrusted import Call, Malformed, array, unpickle

_ARRAY_CLASS = "numpy.ndarray"  # placeholder for the class, which is never called
_PLAIN = re.compile(r"b1|[iuf][1248]")


class _Dtype:
    """A dtype in a pickle: first its code, then its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or not _PLAIN.fullmatch(code):
            raise Malformed(f"it holds arrays of type {str(code)[:20]!r}, not plain numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]
        if self.order not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
            raise Malformed("it holds arrays that are not of plain numbers")

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """An array in a pickle."""

    __slots__ = ("value",)

    def __init__(self, *_: Any):
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # bytes of Python 2
        self.value = _checked(raw, dtype, shape, "F" if fortran else "C")


def _checked(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)):
        raise Malformed("it holds arrays that are not of plain numbers")
    return array(raw, dtype.dtype(), shape, "F" if order == "F" else "C")


def _buffered(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    result = _Array()
    result.value = _checked(raw, dtype, shape, order)
    return result


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise Malformed("it holds text in place of an array's bytes")
    return text.encode("latin1")


_NAMES = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "dtype"): Call(_Dtype),
    ("_codecs", "encode"): Call(_encoded),
    ("__builtin__", "bytes"): Call(lambda: b""),  # the bytes of an empty array
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Call(_Array) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Call(_buffered) for core in ("core", "_core")},
}


def arrays(file: io.BytesIO) -> dict[str, np.ndarray]:
    """The arrays, and lists of integers as arrays, in a pickled dict; other entries are dropped.

    Raises:
        Malformed: the file is damaged, is not a dict, or uses other classes than plain arrays.
    """
    content = unpickle(file, _NAMES)
    if type(content) is not dict:
        raise Malformed("it does not hold a dict")
    out = {}
    for name, value in content.items():
        if isinstance(value, _Array) and value.value is not None:
            out[name] = value.value
        elif type(value) is list and all(type(v) is int and abs(v) < 1 << 63 for v in value):
            out[name] = np.array(value, np.int64)
    return out
