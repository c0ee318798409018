"""Reads files of signals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import beside
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import untrusted

_PCM, _MU_LAW = 1, 7  # format codes of wav files
_PIECE = 256  # samples in a piece of a wav file


@dataclass(frozen=True)
class Series:
    """Signals `[N, T, C]`, uint8 levels or real values; labels int32 `[N]`, zeros if unlabelled."""

    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...] = ()


def read(path: Path, length: int, test: float) -> Series:
    """The signals in a file.

    Args:
        path: the file.
        length: samples in a piece of a wav file; 0 for 256.
        test: fraction held out as test set if the files have none.

    Raises:
        DataError: the file cannot be read.
    """
    readers = {".ts": _ts, ".npz": _npz, ".wav": _wav}
    if path.suffix.lower() not in readers:
        raise DataError(f"series: {str(path)!r}: allowed: {', '.join(readers)} files")
    try:
        return readers[path.suffix.lower()](path, length, test)
    except (OSError, untrusted.Malformed) as e:
        raise DataError(f"cannot read {str(path)!r}: {e}{beside(path)}") from e


def _divided(signals: np.ndarray, labels: np.ndarray, test: float, classes: tuple = ()) -> Series:
    cut = len(signals) - max(int(test * len(signals)), 1)
    if cut < 1:
        raise DataError(f"series: {len(signals)} signals are too few to hold out a test set")
    return Series(signals[:cut], signals[cut:], labels[:cut], labels[cut:], classes)


def _ts(path: Path, length: int, test: float) -> Series:
    signals, names = _lines(path)
    other = path.with_name(path.name.replace("_TRAIN", "_TEST"))
    classes = tuple(sorted(set(names) - {""}))
    if other == path or not other.exists():
        return _divided(signals, _numbers(names, classes, path), test, classes)
    test_signals, test_names = _lines(other)
    if test_signals.shape[1:] != signals.shape[1:]:
        raise DataError(f"{other}: signals are {test_signals.shape[1:]}, but the training signals "
                        f"{signals.shape[1:]}")  # fmt: skip
    labels = _numbers(names, classes, path), _numbers(test_names, classes, other)
    return Series(signals, test_signals, *labels, classes)


def _lines(path: Path) -> tuple[np.ndarray, list[str]]:
    """The signals `[N, T, C]` of a `.ts` file, and the name of each signal's class."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    heads = [line.lower() for line in lines if line.startswith("@")]
    labelled = any(h.startswith("@classlabel true") for h in heads)
    target = any(h.startswith("@targetlabel true") for h in heads)  # a regression target
    rows, names = [], []
    for line in lines:
        if line.startswith("@"):
            continue
        parts = line.split(":")
        last = parts.pop().strip() if labelled or target else ""
        names.append(last if labelled else "")
        try:
            rows.append(np.asarray([[float(v) for v in p.split(",")] for p in parts]).T)
        except ValueError as e:
            raise DataError(
                f"{path}: signal {len(rows) + 1} must be numbers, equally many in all channels"
            ) from e
    if not rows or len({r.shape for r in rows}) > 1 or not np.isfinite(np.stack(rows)).all():
        raise DataError(f"{path}: signals must have equal length and no missing values")
    return np.stack(rows), names


def _numbers(names: list[str], classes: tuple[str, ...], path: Path) -> np.ndarray:
    if not classes:
        return np.zeros(len(names), np.int32)
    unknown = set(names) - set(classes)
    if unknown:
        raise DataError(f"{path}: class {min(unknown)!r} is not among the training classes")
    return np.asarray([classes.index(name) for name in names], np.int32)


def _npz(path: Path, length: int, test: float) -> Series:
    with path.open("rb") as raw:
        arrays = untrusted.npz(raw)
    if "train" not in arrays:
        raise DataError(
            f"{path} has no array train; it needs train, and optionally test, [N, T] or [N, T, C]"
        )
    parts = {k: _signals(path, k, arrays[k]) for k in ("train", "test") if k in arrays}
    names = [f"{k}_label" for k in parts]
    if 0 < sum(name in arrays for name in names) < len(names):
        absent = next(name for name in names if name not in arrays)
        raise DataError(f"{path} has labels, but no {absent}; label both parts, or none")
    labels = {}
    for k, signals in parts.items():
        values = np.asarray(arrays.get(f"{k}_label", np.zeros(len(signals))))
        if values.shape != (len(signals),) or not np.array_equal(values, values.astype(np.int32)):
            raise DataError(f"{path}: {k}_label must be integers [{len(signals)}]")
        labels[k] = values.astype(np.int32)
    labelled = "train_label" in arrays
    count = int(max(a.max() for a in labels.values())) + 1 if labelled else 0
    classes = tuple(map(str, range(count)))
    if "test" not in parts:
        return _divided(parts["train"], labels["train"], test, classes)
    if parts["train"].shape[1:] != parts["test"].shape[1:]:
        raise DataError(f"{path}: train and test have signals of different shapes")
    return Series(parts["train"], parts["test"], labels["train"], labels["test"], classes)


def _signals(path: Path, name: str, a: np.ndarray) -> np.ndarray:
    a = a[..., None] if a.ndim == 2 else a
    if a.dtype.kind == "f" and not np.isfinite(a).all():
        raise DataError(f"{path}: {name} has values that are not finite; remove them first")
    if a.ndim != 3 or not len(a) or a.dtype.kind not in "uif":
        raise DataError(f"{path}: {name} must be numbers [N, T] or [N, T, C], got {a.dtype} "
                        f"{a.shape}")  # fmt: skip
    return a


def _wav(path: Path, length: int, test: float) -> Series:
    """Pieces of an 8-bit file, whose bytes are the levels."""
    data, length = path.read_bytes(), length or _PIECE
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise DataError(f"{path} is not a wav file")
    chunks, at = {}, 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.setdefault(data[at : at + 4], data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    head = chunks.get(b"fmt ", b"").ljust(16, b"\0")
    kind, channels = (int.from_bytes(head[i : i + 2], "little") for i in (0, 2))
    bits = int.from_bytes(head[14:16], "little")
    if kind not in (_PCM, _MU_LAW) or bits != 8 or not channels:
        raise DataError(
            f"{path}: format {kind} with {bits} bits; must be 8-bit mu-law or PCM (256 levels): "
            "convert it, for example with sox IN.wav -e mu-law OUT.wav"
        )
    values = np.frombuffer(chunks.get(b"data", b""), np.uint8)
    values = values[: len(values) // channels * channels].reshape(-1, channels)
    if kind == _MU_LAW:
        values = ordered(values)
    count = len(values) // length
    if count < 2:
        raise DataError(f"{path} has {len(values)} samples, too few for pieces of {length}")
    pieces = values[: count * length].reshape(count, length, channels)
    return _divided(pieces, np.zeros(count, np.int32), test)


def ordered(codes: np.ndarray) -> np.ndarray:
    """Maps mu-law bytes to the rank of their amplitude, 0 for the lowest; this is a permutation.

    A mu-law byte is a sign and a magnitude, inverted (ITU-T G.711).
    """
    inverted = ~codes
    magnitude = (inverted & 0x7F).astype(np.int16)
    negative = inverted & 0x80 > 0
    return np.where(negative, 127 - magnitude, 128 + magnitude).astype(np.uint8)
