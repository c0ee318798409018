"""Feeds data to the training step: the whole set on the devices, or batches read ahead.

The examples of a step are a pure function of seed and step, independent of the number of processes,
threads and batches read ahead. No stream position has to be saved: a run resumes exactly, also with
another number of hosts. A loader with its own state, shuffle and sharding by process, such as
grain's, would not allow that.
"""

import collections
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from diffusion_jax.data import base as data_base
from diffusion_jax.data.base import Split
from diffusion_jax.runtime.sharding import (
    batched,
    batched_steps,
    local_rows,
    put,
    put_rows,
    replicated,
)


@dataclass(frozen=True)
class Order:
    """Which examples are read, and how far ahead.

    Attributes:
        batch: global batch size.
        seed: seed of the order.
        skip: batches skipped so far; step s trains on batch s + skip of the order.
        ahead: number of dispatches to read ahead of the running one.
        next: maps a step to the number of steps in the dispatch that starts there; 0 at the end.
    """

    batch: int
    seed: int
    skip: int
    ahead: int
    next: Callable[[int], int]


@dataclass
class Clock:
    """Seconds since the last `reset`.

    Attributes:
        waited: seconds in which the devices were idle because data were not ready.
        total: seconds spent training, excluding validation, checkpoints and the like.
    """

    waited: float = 0.0
    total: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Starts counting training time."""
        self._began = time.perf_counter()

    def stop(self) -> None:
        """Stops counting, before validation or a checkpoint."""
        self.total += time.perf_counter() - self._began

    def share(self) -> float:
        """The fraction of the time spent waiting; resets the clock."""
        share = self.waited / self.total if self.total else 0.0
        self.waited = self.total = 0.0
        return share


class Feeder:
    """Gives the step its data: the whole set on the devices, or batches read ahead.

    Args:
        split: training data.
        order: order in which examples are read.
        resident_bytes: sets up to this size, with labels and texts, are kept on the devices.
    """

    def __init__(self, split: Split, order: Order, mesh: Mesh, resident_bytes: int):
        small = split.nbytes <= resident_bytes
        self.resident = tuple(split.images.shape[1:]) if small else None
        self.clock = Clock()
        self._split, self._order, self._mesh = split, order, mesh
        self._pool = ThreadPoolExecutor(max(order.ahead, 1), "feed")
        self._coming: collections.OrderedDict[tuple[int, int], Future] = collections.OrderedDict()
        if self.resident:
            whole = replicated(mesh)
            rows = split.whole()
            rows["image"] = rows["image"].reshape(len(split), -1)
            self._data = {k: put(v, whole) for k, v in rows.items()}

    @property
    def skipped(self) -> int:
        """Number of damaged images that this host has skipped so far."""
        return self._split.skipped

    def _indices(self, step: int, n: int) -> np.ndarray:
        size, seed, total = self._order.batch, self._order.seed, len(self._split)
        first = step + self._order.skip
        return np.stack([data_base.indices(first + i, size, total, seed) for i in range(n)])

    def _read(self, step: int, n: int) -> dict[str, jax.Array]:
        """The batches of `n` steps, on the devices; each process reads its own rows."""
        index = self._indices(step, n)
        several = n > 1
        index = index if several else index[0]
        sharding = batched_steps(self._mesh) if several else batched(self._mesh)
        axis = int(several)
        which = local_rows(sharding, index.shape, axis)
        mine = index[..., which]
        rows = self._split.take(mine.reshape(-1))
        rows = {k: v.reshape(*mine.shape, *v.shape[1:]) for k, v in rows.items()}
        size = self._order.batch
        return {k: put_rows(v, which, size, sharding, axis) for k, v in rows.items()}

    def _look_ahead(self, step: int) -> None:
        """Starts reading the data of the next `ahead` dispatches from `step` on."""
        for _ in range(self._order.ahead):
            n = self._order.next(step)
            if not n:
                break
            if (step, n) not in self._coming:
                self._coming[step, n] = self._pool.submit(self._read, step, n)
            step += n

    def __call__(self, step: int, n: int, running: Any = None) -> tuple[dict, jax.Array]:
        """Data and indices of a dispatch.

        Args:
            step: its first step.
            n: its number of steps.
            running: a result of the previous dispatch; the devices are idle once it is ready.

        Returns:
            `(data, indices)` for `compile.compile_steps`, with a leading axis n only if `n > 1`.
        """
        whole = replicated(self._mesh)
        if self.resident:
            index = self._indices(step, n)
            return self._data, put(index[0] if n == 1 else index, whole)
        future = self._coming.pop((step, n), None) or self._pool.submit(self._read, step, n)
        if not future.done():
            if running is not None:
                jax.block_until_ready(running)
            began = time.perf_counter()
            future.exception()  # waits; an exception is raised below
            self.clock.waited += time.perf_counter() - began
        data = future.result()
        self._look_ahead(step + n)
        return data, put(np.zeros(n, np.int32), whole)

    def close(self) -> None:
        """Stops reading ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)
