"""Features of many images, in equal batches over all devices."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from diffusion_jax.evaluation.features.base import Features
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.sharding import batched, put, replicated


def extractor(features: Features, mesh: Mesh, batch: int) -> Callable[..., Iterator[np.ndarray]]:
    """A function from images to batches of features, compiled once.

    Args:
        features: the feature space.
        mesh: devices to run on.
        batch: images per call, rounded up to a multiple of the number of devices.

    Returns:
        `run(images, label)`, an iterator over float32 `[B, F]` that covers `images`
        (integers `[N, H, W, C]`) in order; `label` names the progress bar.
    """
    devices = mesh.devices.size
    size = -(-batch // devices) * devices
    params = jax.tree.map(lambda a: put(a, replicated(mesh)), features.params)
    apply = jax.jit(features.apply, out_shardings=replicated(mesh))

    def run(images: np.ndarray, label: str = "features") -> Iterator[np.ndarray]:
        with progress(label, len(images), every=10.0) as bar:
            for start in range(0, len(images), size):
                rows = np.minimum(np.arange(start, start + size), len(images) - 1)
                values = apply(params, put(np.asarray(images[rows]), batched(mesh)))
                yield np.asarray(jax.device_get(values))[: len(images) - start]
                bar.at(min(start + size, len(images)))

    return run
