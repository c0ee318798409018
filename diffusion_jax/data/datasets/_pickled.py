"""Pickled dicts of arrays without numpy's own unpickling, which can be made to run programs.

`numpy.ndarray` may not be allowed by name: an object array over a forged buffer takes any number
for the address of an object. Here arrays are put together from bytes, a shape and a plain type.
"""

import io
import re
from typing import Any

import numpy as np

from diffusion_jax.runtime.untrusted import Call, Malformed, array, unpickle

_ARRAY_CLASS = "numpy.ndarray"  # stands for the class, which is only ever named
_PLAIN = re.compile(r"b1|[iuf][1248]")


class _Dtype:
    """What a pickle says about a type: its code, then its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or not _PLAIN.fullmatch(code):
            raise Malformed(f"it holds arrays of type {str(code)[:20]!r}, not of plain numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]
        if self.order not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
            raise Malformed("it holds arrays that are not of plain numbers")

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """What a pickle says about an array."""

    __slots__ = ("value",)

    def __init__(self, *_: Any):
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # bytes of Python 2
        self.value = _made(raw, dtype, shape, "F" if fortran else "C")


def _made(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)):
        raise Malformed("it holds arrays that are not of plain numbers")
    return array(raw, dtype.dtype(), shape, "F" if order == "F" else "C")


def _buffered(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.value = _made(raw, dtype, shape, order)
    return made


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise Malformed("it holds text where an array's bytes belong")
    return text.encode("latin1")


_NAMES = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "dtype"): Call(_Dtype),
    ("_codecs", "encode"): Call(_encoded),
    ("__builtin__", "bytes"): Call(lambda: b""),  # of an empty array
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Call(_Array) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Call(_buffered) for core in ("core", "_core")},
}


def arrays(file: io.BytesIO) -> dict[str, np.ndarray]:
    """The arrays, and lists of whole numbers as arrays, of a pickled dict; the rest is dropped.

    Raises:
        Malformed: it is damaged, no dict, or refers to anything but arrays of plain numbers.
    """
    found = unpickle(file, _NAMES)
    if type(found) is not dict:
        raise Malformed("it holds no dict")
    out = {}
    for name, value in found.items():
        if isinstance(value, _Array) and value.value is not None:
            out[name] = value.value
        elif type(value) is list and all(type(v) is int and abs(v) < 1 << 63 for v in value):
            out[name] = np.array(value, np.int64)
    return out
