"""Readers of files of signals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.data.base import beside
from diffusion_jax.errors import DataError
from diffusion_jax.runtime import untrusted

_PCM, _MU_LAW = 1, 7  # formats of wav files
_PIECE = 256  # samples of a piece of a wav


@dataclass(frozen=True)
class Series:
    """Signals `[N, T, C]`: uint8 levels, or real values; labels int32 `[N]`, zeros without."""

    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...] = ()


def read(path: Path, length: int, test: float) -> Series:
    """The signals of a file.

    Args:
        length: samples of a piece of a wav; 0 for 256.
        test: part kept back for the test, where the files have none.

    Raises:
        DataError: the file cannot be read.
    """
    readers = {".ts": _ts, ".npz": _npz, ".wav": _wav}
    if path.suffix.lower() not in readers:
        raise DataError(f"series: {str(path)!r}: allowed are {', '.join(readers)} files")
    try:
        return readers[path.suffix.lower()](path, length, test)
    except (OSError, untrusted.Malformed) as e:
        raise DataError(f"cannot read {str(path)!r}: {e}{beside(path)}") from e


def _parted(signals: np.ndarray, labels: np.ndarray, test: float, classes: tuple = ()) -> Series:
    cut = len(signals) - max(int(test * len(signals)), 1)
    if cut < 1:
        raise DataError(f"series: {len(signals)} signals are too few to keep a test set back")
    return Series(signals[:cut], signals[cut:], labels[:cut], labels[cut:], classes)


def _ts(path: Path, length: int, test: float) -> Series:
    signals, names = _lines(path)
    other = path.with_name(path.name.replace("_TRAIN", "_TEST"))
    classes = tuple(sorted(set(names) - {""}))
    if other == path or not other.exists():
        return _parted(signals, _numbers(names, classes, path), test, classes)
    later, told = _lines(other)
    if later.shape[1:] != signals.shape[1:]:
        raise DataError(f"{other}: signals are {later.shape[1:]}, those to train on "
                        f"{signals.shape[1:]}")  # fmt: skip
    labels = _numbers(names, classes, path), _numbers(told, classes, other)
    return Series(signals, later, *labels, classes)


def _lines(path: Path) -> tuple[np.ndarray, list[str]]:
    """`[N, T, C]` and the names of the classes, of a `.ts` file."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    heads = [line.lower() for line in lines if line.startswith("@")]
    labelled = any(h.startswith("@classlabel true") for h in heads)
    target = any(h.startswith("@targetlabel true") for h in heads)  # a number, of regressions
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
            raise DataError(f"{path}: signal {len(rows) + 1} is not numbers of one length") from e
    if not rows or len({r.shape for r in rows}) > 1 or not np.isfinite(np.stack(rows)).all():
        raise DataError(f"{path}: it needs signals of one length, without missing values")
    return np.stack(rows), names


def _numbers(names: list[str], classes: tuple[str, ...], path: Path) -> np.ndarray:
    if not classes:
        return np.zeros(len(names), np.int32)
    unknown = set(names) - set(classes)
    if unknown:
        raise DataError(f"{path}: class {min(unknown)!r} is not among those to train on")
    return np.asarray([classes.index(name) for name in names], np.int32)


def _npz(path: Path, length: int, test: float) -> Series:
    with path.open("rb") as raw:
        found = untrusted.npz(raw)
    if "train" not in found:
        raise DataError(f"{path} has no train; it needs train, and perhaps test, [N, T] or [N,T,C]")
    parts = {k: _signals(path, k, found[k]) for k in ("train", "test") if k in found}
    names = [f"{k}_label" for k in parts]
    if 0 < sum(name in found for name in names) < len(names):
        lacking = next(name for name in names if name not in found)
        raise DataError(f"{path} has labels, but no {lacking}; label both parts, or none")
    labels = {}
    for k, signals in parts.items():
        own = np.asarray(found.get(f"{k}_label", np.zeros(len(signals))))
        if own.shape != (len(signals),) or not np.array_equal(own, own.astype(np.int32)):
            raise DataError(f"{path}: {k}_label must be whole numbers [{len(signals)}]")
        labels[k] = own.astype(np.int32)
    known = "train_label" in found
    count = int(max(a.max() for a in labels.values())) + 1 if known else 0
    classes = tuple(map(str, range(count)))
    if "test" not in parts:
        return _parted(parts["train"], labels["train"], test, classes)
    if parts["train"].shape[1:] != parts["test"].shape[1:]:
        raise DataError(f"{path}: train and test have signals of different shape")
    return Series(parts["train"], parts["test"], labels["train"], labels["test"], classes)


def _signals(path: Path, name: str, a: np.ndarray) -> np.ndarray:
    a = a[..., None] if a.ndim == 2 else a
    if a.dtype.kind == "f" and not np.isfinite(a).all():
        raise DataError(f"{path}: {name} has values that are not finite; leave them out first")
    if a.ndim != 3 or not len(a) or a.dtype.kind not in "uif":
        raise DataError(f"{path}: {name} must be numbers [N, T] or [N, T, C], got {a.dtype} "
                        f"{a.shape}")  # fmt: skip
    return a


def _wav(path: Path, length: int, test: float) -> Series:
    """An 8-bit file in pieces; the bytes are the levels."""
    data, length = path.read_bytes(), length or _PIECE
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise DataError(f"{path} is no wav file")
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
            f"{path}: format {kind} with {bits} bits; 8-bit mu-law or PCM has 256 levels: convert "
            "it, with sox IN.wav -e mu-law OUT.wav for example"
        )
    values = np.frombuffer(chunks.get(b"data", b""), np.uint8)
    values = values[: len(values) // channels * channels].reshape(-1, channels)
    if kind == _MU_LAW:
        values = ordered(values)
    count = len(values) // length
    if count < 2:
        raise DataError(f"{path} has {len(values)} samples, too few for pieces of {length}")
    pieces = values[: count * length].reshape(count, length, channels)
    return _parted(pieces, np.zeros(count, np.int32), test)


def ordered(codes: np.ndarray) -> np.ndarray:
    """Bytes of mu-law as ranks of loudness, 0 the lowest value: a permutation, so nothing is lost.

    A byte is sign and magnitude, inverted (ITU-T G.711).
    """
    plain = ~codes
    magnitude = (plain & 0x7F).astype(np.int16)
    negative = plain & 0x80 > 0
    return np.where(negative, 127 - magnitude, 128 + magnitude).astype(np.uint8)
