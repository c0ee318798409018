"""Reference statistics of a data split: moments and rows of its features, in one file."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.errors import DataError
from diffusion_jax.evaluation.frechet import Accumulator, Moments
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.formatting import json_text
from diffusion_jax.runtime.storage import write_arrays

# Raised by damaged files; a single array in place of an archive raises TypeError.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError,
            zipfile.BadZipFile)  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Statistics that samples are compared with.

    Attributes:
        moments: moments of the features of all images of the split.
        rows: features of a random subset of the images, float32 `[M, F]`, for metrics that need
            more than moments; empty if the file was written by another package.
        record: `features`, `features_sha256`, `split`, `data_sha256`, ...; empty if the file was
            written by another package.
    """

    moments: Moments
    rows: np.ndarray
    record: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of features."""
        return len(self.moments.mean)


def measure(
    run: Callable, split: Split, record: dict[str, Any], keep: int, seed: int = 0
) -> Reference:
    """Computes the statistics of a split.

    Args:
        run: the function returned by `extract.extractor`.
        split: the images.
        record: description of the features.
        keep: maximum number of rows to keep.
        seed: seed for the choice of rows.
    """
    count = len(split)
    order = np.random.default_rng(seed).permutation(count)[: min(keep, count)]
    place = np.full(count, -1)
    place[order] = np.arange(len(order))  # in random order, so that any prefix is a random sample
    sums, rows, start = Accumulator(), None, 0
    for batch in run(split.images, label=f"features of {split.name}"):
        sums.add(batch)
        if rows is None:
            rows = np.empty((len(order), batch.shape[1]), np.float32)
        where = place[start : start + len(batch)]
        rows[where[where >= 0]] = batch[where >= 0]
        start += len(batch)
    record = {**record, "split": split.name, "images": count, "data_sha256": split.fingerprint(),
              "rows": len(order), "rows_seed": seed}  # fmt: skip
    return Reference(sums.result(), rows, record)


def write(path: Path, reference: Reference) -> None:
    """Writes the statistics atomically."""
    write_arrays(
        path,
        compressed=False,
        mean=reference.moments.mean,
        covariance=reference.moments.covariance,
        count=reference.moments.count,
        rows=reference.rows,
        record=json_text(reference.record),
    )


def read(path: Path, advice: str = "write them with --mode=statistics") -> Reference:
    """Reads statistics: ours, or another package's `mu` and `sigma`, which suffice for Frechet.

    Args:
        path: the npz file.
        advice: how to fix a damaged file, for the message.

    Raises:
        DataError: the file is unreadable or does not hold statistics.
    """
    try:
        with path.open("rb") as raw:
            f = untrusted.npz(raw)
            if "mu" in f and "sigma" in f:
                mean, covariance = f["mu"], f["sigma"]
                count, rows, record = 0, np.zeros((0, mean.size), np.float32), {}
            else:
                untrusted.need(f, "mean", "covariance", "rows", "count", "record")
                mean, covariance, rows = f["mean"], f["covariance"], f["rows"]
                count, record = int(f["count"]), json.loads(str(f["record"]))
    except _DAMAGED as e:
        raise DataError(
            f"cannot read reference statistics {path}: {untrusted.reason(e)}; {advice}"
        ) from e
    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or rows.shape[1:] != mean.shape:
        raise DataError(
            f"reference statistics {path}: mean {mean.shape}, covariance {covariance.shape} and "
            f"rows {rows.shape} do not match; {advice}"
        )
    return Reference(Moments(count, mean, covariance), rows, record)
