"""What a guide is worth at each noise level."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from diffusion_jax import rng
from diffusion_jax.data.base import Split
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.sharding import batched, put, put_key, replicated
from diffusion_jax.training.tasks.guide import Recipe
from diffusion_jax.types import Array, Params, diffuse

_LEVELS = 9


def measure(
    recipe: Recipe,
    params: Params,
    split: Split,
    mesh: Mesh,
    batch: int,
    seed: int = 0,
    limit: int = 0,
    quiet: bool = False,
) -> list[dict[str, float]]:
    """Mean loss and metrics over a split, every image once at each of nine noise levels.

    Args:
        recipe: how the guide was trained.
        params: its weights.
        batch: images per call; rounded up to a multiple of the devices.
        seed: seed of the noise.
        limit: only the first images; 0 for all.
        quiet: no progress report.

    Returns:
        For each level, from the least noise: `gamma`, `loss` in nats, and the guide's metrics.
    """
    gammas = np.linspace(recipe.gamma_min, recipe.gamma_max, _LEVELS, dtype=np.float32)

    @functools.partial(jax.jit, out_shardings=replicated(mesh))
    def run(params: Params, image: Array, label: Array, known: Array, key: Array) -> dict:
        x = recipe.encode(image)

        def level(gamma: Array) -> dict[str, Array]:
            noise = jax.random.normal(key, x.shape, x.dtype)
            at = jnp.full(x.shape[0], gamma)
            each = recipe.network.loss(params, diffuse(x, at, noise), at, label, None)
            return jax.tree.map(lambda a: (a * known).sum(), each)

        return jax.lax.map(level, jnp.asarray(gammas))

    devices = mesh.devices.size
    count = min(limit or len(split), len(split))
    batch = -(-min(batch, count) // devices) * devices
    total: dict[str, Any] = {}
    with progress("noise levels", count, show=not quiet) as bar:
        for start in range(0, count, batch):
            ids = np.arange(start, start + batch)
            rows = split.take(np.minimum(ids, count - 1))
            parts = (rows["image"], rows["label"], (ids < count).astype(np.float32))
            key = put_key(rng.stream(jax.random.key(seed), "scoring", start), mesh)
            found = jax.device_get(run(params, *(put(p, batched(mesh)) for p in parts), key))
            total = {k: total.get(k, 0.0) + v for k, v in found.items()}
            bar.at(min(start + batch, count))
    rows = {k: v / count for k, v in total.items()}
    return [
        {"gamma": float(g), **{k: float(v[i]) for k, v in rows.items()}}
        for i, g in enumerate(gammas)
    ]


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean over noise levels of everything but gamma."""
    return {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if k != "gamma"}
