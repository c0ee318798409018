"""One exact pass over the images of a split: each once, in order, the last batch padded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from diffusion_jax.data.base import Split
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.sharding import batched, local_rows, put, put_rows
from diffusion_jax.types import Array


def count(split: Split, limit: int) -> int:
    """Images to look at: the first `limit`, or all of them for 0."""
    return min(limit, len(split)) if limit else len(split)


def fetched(results: Iterable[Any], ahead: int = 2) -> Iterator[Any]:
    """Brings results to the host while later ones are computed: the device never waits for it.

    Args:
        results: pytrees of device arrays; drawing one from the iterator dispatches its computation.
        ahead: how many are dispatched before the first is asked for.

    Yields:
        The same pytrees of host arrays, in order.
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


def over(
    run: Callable[[dict[str, Array], Array], Any],
    split: Split,
    mesh: Mesh,
    *,
    batch: int,
    limit: int = 0,
    label: str = "evaluate",
    quiet: bool = False,
) -> Any:
    """Calls `run` on one batch after another.

    Args:
        run: `({"image", "label"}, ids [B]) -> pytree` of arrays with leading axis `[B]`; `ids` are
            the images' numbers, from which noise should be drawn.
        mesh: the device mesh; batches are split over it.
        batch: images per call, rounded up to a multiple of the devices.
        limit: only the first images; 0 for all.
        label: what the progress report calls it.
        quiet: no progress report.

    Returns:
        The same pytree for all images, float64 on the host.
    """
    n = count(split, limit)
    devices = mesh.devices.size
    batch = -(-min(batch, n) // devices) * devices
    mine = local_rows(batched(mesh), (batch,))

    def results() -> Iterator[Any]:
        for start in range(0, n, batch):
            ids = np.minimum(np.arange(start, start + batch), n - 1)
            # Each process reads the images of its own devices.
            read = split.take(ids[mine]).items()
            rows = {k: put_rows(v, mine, batch, batched(mesh)) for k, v in read}
            yield run(rows, put(ids.astype(np.int32), batched(mesh)))

    out = []
    with progress(label, n, show=not quiet) as bar:
        for found in fetched(results()):
            out.append(found)
            bar.at(min(len(out) * batch, n))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n].astype(np.float64), *out)
