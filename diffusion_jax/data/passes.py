"""One pass over the images of a split: each image once, in order, with the last batch padded."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.sharding import Mesh

from diffusion_jax import rng
from diffusion_jax.data.base import Split
from diffusion_jax.runtime import memory
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.sharding import batched, local_rows, put, put_key, put_rows, replicated
from diffusion_jax.types import Array


def count(split: Split, limit: int) -> int:
    """Number of images that a pass covers: the first `limit`, or all if `limit` is 0."""
    return min(limit, len(split)) if limit else len(split)


_AHEAD = 2  # results computed on the device while earlier ones are copied


def fetched(results: Iterable[Any]) -> Iterator[Any]:
    """Copies results to the host while the device computes later ones.

    Args:
        results: pytrees of device arrays; advancing the iterator dispatches a computation.

    Yields:
        The same pytrees as host arrays, in order.
    """
    pending = deque()
    for result in results:
        for a in jax.tree.leaves(result):
            a.copy_to_host_async()
        pending.append(result)
        if len(pending) > _AHEAD:
            yield jax.device_get(pending.popleft())
    while pending:
        yield jax.device_get(pending.popleft())


Make = TypeVar("Make", bound=Callable)


def kept(make: Make) -> Make:
    """Caches `make`, so that the function it returns for equal arguments is compiled only once.

    This saves compilations when a run validates every few hundred steps. If the arguments are not
    hashable, which plug-ins need not be, `make` is called again.
    """
    cached = functools.lru_cache(maxsize=16)(make)

    @functools.wraps(make)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            hash((args, tuple(kwargs.items())))
        except TypeError:
            return make(*args, **kwargs)
        return cached(*args, **kwargs)

    return cast(Make, wrapper)


# `(params, {"image", "label"}, keys [B]) -> pytree` of arrays with leading axis `[B]`.
OneBatch = Callable[[Any, dict[str, Array], Array], Any]


@kept
def _compiled(one: OneBatch, mesh: Mesh) -> Callable:
    def run(params: Any, rows: dict[str, Array], ids: Array, key: Array) -> Any:
        return one(params, rows, rng.keyed(key, ids))

    return jax.jit(run, out_shardings=replicated(mesh))


@dataclass(frozen=True)
class Pass:
    """A pass over a data set. Results depend only on `seed`, `limit` and `precision`.

    Attributes:
        mesh: devices that batches are split over.
        batch: images per call, rounded up to a multiple of the number of devices.
        seed: seed for the noise, which is a function of the seed and the index of the image.
        limit: number of images, from the first; 0 for all.
        precision: precision of matrix products, as for `jax.default_matmul_precision`; empty for
            the device's default.
        quiet: whether to hide the progress bar.
    """

    mesh: Mesh
    batch: int
    seed: int = 0
    limit: int = 0
    precision: str = ""
    quiet: bool = False

    @property
    def key(self) -> Array:
        """The root key of the noise, on every device."""
        return put_key(jax.random.key(self.seed), self.mesh)

    def precise(self) -> AbstractContextManager:
        """A context in which matrix products have precision `precision`."""
        return jax.default_matmul_precision(self.precision or None)

    def compile(self, one: OneBatch) -> Callable:
        """Jits `one` as `(params, rows, ids [B], key)`, with one key per image."""
        return _compiled(one, self.mesh)

    def over(self, one: OneBatch, params: Any, split: Split, label: str) -> Any:
        """Calls `one` on all batches.

        Args:
            one: function of a batch.
            params: its first argument, replicated over the mesh.
            split: the images.
            label: label of the progress bar.

        Returns:
            The results of `one` for all images in order, float64 on the host.
        """
        key, device = self.key, self.mesh.local_devices[0]
        run = memory.checked(
            self.compile(one), device, f"{label}, {self.batch} images at once,",
            "lower --config.eval.batch",
        )  # fmt: skip
        return self.gather(lambda rows, ids: run(params, rows, ids, key), split, label)

    def gather(
        self, run: Callable[[dict[str, Array], Array], Any], split: Split, label: str
    ) -> Any:
        """Like `over`, for a compiled function `(rows, ids) -> pytree`."""
        n = count(split, self.limit)
        devices = self.mesh.devices.size
        batch = -(-min(self.batch, n) // devices) * devices
        where = batched(self.mesh)
        mine = local_rows(where, (batch,))

        def results() -> Iterator[Any]:
            for start in range(0, n, batch):
                ids = np.minimum(np.arange(start, start + batch), n - 1)
                # Each process reads the images of its own devices.
                local = split.take(ids[mine]).items()
                rows = {k: put_rows(v, mine, batch, where) for k, v in local}
                yield run(rows, put(ids.astype(np.int32), where))

        out = []
        with self.precise(), progress(label, n, show=not self.quiet) as bar:
            for result in fetched(results()):
                out.append(result)
                bar.at(min(len(out) * batch, n))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:n].astype(np.float64), *out)
