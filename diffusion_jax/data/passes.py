"""One pass over the images of a split: each once, in order, the last batch padded."""

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
    """How many images a pass covers: the first `limit`, or all for 0."""
    return min(limit, len(split)) if limit else len(split)


def fetched(results: Iterable[Any], ahead: int = 2) -> Iterator[Any]:
    """Copies results to the host while the device computes later ones.

    Args:
        results: pytrees of device arrays; drawing one from the iterator dispatches its computation.
        ahead: how many are dispatched before the first is copied.

    Yields:
        The same pytrees as host arrays, in order.
    """
    flying = deque()
    for found in results:
        for a in jax.tree.leaves(found):
            a.copy_to_host_async()
        flying.append(found)
        if len(flying) > ahead:
            yield jax.device_get(flying.popleft())
    while flying:
        yield jax.device_get(flying.popleft())


Make = TypeVar("Make", bound=Callable)


def kept(make: Make) -> Make:
    """Makes the same function for equal arguments, so that it is traced and compiled once.

    A validation every few hundred steps asks for the same again. Arguments that cannot be hashed,
    as a plug-in's may not, are made anew.
    """
    made = functools.lru_cache(maxsize=16)(make)

    @functools.wraps(make)
    def same(*args: Any, **kwargs: Any) -> Any:
        try:
            hash((args, tuple(kwargs.items())))
        except TypeError:
            return make(*args, **kwargs)
        return made(*args, **kwargs)

    return cast(Make, same)


# One batch: `(params, {"image", "label"}, keys [B]) -> pytree` of arrays with leading axis `[B]`.
OneBatch = Callable[[Any, dict[str, Array], Array], Any]


@kept
def _compiled(one: OneBatch, mesh: Mesh) -> Callable:
    def run(params: Any, rows: dict[str, Array], ids: Array, key: Array) -> Any:
        return one(params, rows, rng.keyed(key, ids))

    return jax.jit(run, out_shardings=replicated(mesh))


@dataclass(frozen=True)
class Pass:
    """How to go over a data set. Results depend on `seed`, `limit` and `precision` only.

    Attributes:
        mesh: batches are split over its devices.
        batch: images per call, rounded up to a multiple of the devices.
        seed: of the noise, a function of the seed and the index of the image.
        limit: only the first images; 0 for all.
        precision: of matrix products, as `jax.default_matmul_precision` takes it; empty for the
            device's default.
        quiet: no progress report.
    """

    mesh: Mesh
    batch: int
    seed: int = 0
    limit: int = 0
    precision: str = ""
    quiet: bool = False

    @property
    def key(self) -> Array:
        """The root of the noise, on every device."""
        return put_key(jax.random.key(self.seed), self.mesh)

    def precise(self) -> AbstractContextManager:
        """A context in which matrix products have this precision."""
        return jax.default_matmul_precision(self.precision or None)

    def compile(self, one: OneBatch) -> Callable:
        """Jits `one` as `(params, rows, ids [B], key)`, with one key per image."""
        return _compiled(one, self.mesh)

    def over(self, one: OneBatch, params: Any, split: Split, label: str) -> Any:
        """Calls `one` on one batch after another.

        Args:
            params: replicated over the mesh.
            label: of the progress bar.

        Returns:
            Its pytree for all images in order, float64 on the host.
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
        """`over` for a function `(rows, ids) -> pytree` that is compiled already."""
        n = count(split, self.limit)
        devices = self.mesh.devices.size
        batch = -(-min(self.batch, n) // devices) * devices
        where = batched(self.mesh)
        mine = local_rows(where, (batch,))

        def results() -> Iterator[Any]:
            for start in range(0, n, batch):
                ids = np.minimum(np.arange(start, start + batch), n - 1)
                # Each process reads the images of its own devices.
                read = split.take(ids[mine]).items()
                rows = {k: put_rows(v, mine, batch, where) for k, v in read}
                yield run(rows, put(ids.astype(np.int32), where))

        out = []
        with self.precise(), progress(label, n, show=not self.quiet) as bar:
            for found in fetched(results()):
                out.append(found)
                bar.at(min(len(out) * batch, n))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:n].astype(np.float64), *out)
