"""The file format: magic, version, header (deflated JSON) and groups of images, with checksums.

    magic "DJXC" | version u8 | bytes of header u32 | header | CRC32 of all before
    per group: counts u32 (rows, lanes, words of the tail, words of the symbols, initial words used,
               CRC32 of the images) | heads u64 | tail u16 | symbols u32 | CRC32 of the group

All numbers are little-endian. Groups are independent of each other.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_jax.errors import CodecError

_MAGIC = b"DJXC"
VERSION = 1
_START = struct.Struct("<4sBI")
_COUNTS = struct.Struct("<6I")
_CRC = struct.Struct("<I")
_LONGEST = 1 << 26  # bytes of an unpacked header: enough for the names of about a million images


@dataclass(frozen=True)
class Group:
    """The coded bits of images that share a stack.

    Attributes:
        heads: states of the stack of latents, uint64 `[rows, lanes]`.
        tail: words of the stack of latents, uint16.
        symbols: stack of pixels and labels, uint32.
        used: number of initial words used.
        images_crc: CRC32 of the decoded images (and labels).
    """

    heads: np.ndarray
    tail: np.ndarray
    symbols: np.ndarray
    used: int
    images_crc: int

    def pack(self) -> bytes:
        """The group as bytes, checksum included."""
        counts = (*self.heads.shape, len(self.tail), len(self.symbols), self.used, self.images_crc)
        body = b"".join((
            _COUNTS.pack(*counts),
            self.heads.astype("<u8").tobytes(),
            self.tail.astype("<u2").tobytes(),
            self.symbols.astype("<u4").tobytes(),
        ))  # fmt: skip
        return body + _CRC.pack(zlib.crc32(body))


def pack(header: dict[str, Any], groups: list[Group]) -> bytes:
    """The whole file as bytes.

    Args:
        header: JSON-able; must contain the number of groups as `"groups"`.
        groups: the coded images.

    Raises:
        CodecError: the header is too long.
    """
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > _LONGEST:
        raise CodecError(f"the image names need more than {_LONGEST} bytes; shorten them")
    text = zlib.compress(text, 9)
    start = _START.pack(_MAGIC, VERSION, len(text)) + text
    return b"".join((start, _CRC.pack(zlib.crc32(start)), *(g.pack() for g in groups)))


def unpack(data: bytes, name: str) -> tuple[dict[str, Any], list[Group]]:
    """Splits a file into header and groups, and verifies all checksums.

    The content of the header is checked by `header.check`, not here.

    Args:
        data: the bytes of the file.
        name: name of the file in messages.

    Returns:
        `(header, groups)`.

    Raises:
        CodecError: not a file of this format and version, or truncated or damaged.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CodecError(
            f"{name} is of type {type(data).__name__}; pass the bytes of a .djz file, for example "
            "open(FILE, 'rb').read()"
        )
    if len(data) < _START.size or data[: len(_MAGIC)] != _MAGIC:
        raise CodecError(f"{name} was not written by --mode=compress (its first bytes are wrong)")
    _, version, size = _START.unpack_from(data)
    if version != VERSION:
        raise CodecError(
            f"{name} has format version {version}, this program reads version {VERSION}"
        )
    end = _START.size + size
    _check(data, 0, end, f"{name}: the header")
    header = _header(data[_START.size : end], name)
    at, groups = end + _CRC.size, []
    for number in range(1, header["groups"] + 1):
        group, at = _group(data, at, f"{name}: group {number} of {header['groups']}")
        groups.append(group)
    if at != len(data):
        raise CodecError(f"{name} has {len(data) - at} bytes after its end; get another copy")
    return header, groups


def _header(text: bytes, name: str) -> dict[str, Any]:
    try:
        inflater = zlib.decompressobj()
        unpacked = inflater.decompress(text, _LONGEST)
        if not inflater.eof:
            raise ValueError(f"it is longer than {_LONGEST} bytes, or ends too early")
        header = json.loads(unpacked)
        if not isinstance(header, dict) or type(header.get("groups")) is not int:
            raise ValueError("the number of groups is missing")
    except (ValueError, RecursionError, zlib.error) as e:
        raise CodecError(f"{name} has a header that cannot be read ({e}); get another copy") from e
    return header


def _group(data: bytes, at: int, name: str) -> tuple[Group, int]:
    if at + _COUNTS.size > len(data):
        raise CodecError(f"{name} is missing: the file is truncated; get another copy")
    rows, lanes, tail, symbols, used, crc = _COUNTS.unpack_from(data, at)
    sizes = (8 * rows * lanes, 2 * tail, 4 * symbols)
    parts = np.cumsum([at + _COUNTS.size, *sizes]).tolist()
    _check(data, at, parts[-1], name)
    heads, words, rest = (
        np.frombuffer(data, kind, (b - a) // kind.itemsize, a)
        for kind, a, b in zip(map(np.dtype, ("<u8", "<u2", "<u4")), parts, parts[1:], strict=False)
    )
    return Group(heads.reshape(rows, lanes), words, rest, used, crc), parts[-1] + _CRC.size


def _check(data: bytes, start: int, end: int, name: str) -> None:
    if end + _CRC.size > len(data):
        raise CodecError(f"{name} goes beyond the end: the file is truncated; get another copy")
    if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[start:end]):
        raise CodecError(f"{name} is damaged: its checksum does not match; get another copy")


def code(numbers: np.ndarray) -> str:
    """A short checksum of float64 numbers, for the header."""
    return f"{zlib.crc32(np.ascontiguousarray(numbers, dtype='<f8').tobytes()):08x}"
