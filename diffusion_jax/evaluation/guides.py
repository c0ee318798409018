"""Loss and metrics of a guide at each noise level."""

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.data import captions
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.training.tasks.guide import Recipe
from diffusion_jax.types import Array, Params, diffuse

_LEVELS = 9
_BANK = 512  # captions that each image is held against


def measure(recipe: Recipe, params: Params, split: Split, how: Pass) -> list[dict[str, float]]:
    """Mean loss and metrics over a split, every image once at each of nine noise levels.

    A guide of clean images has one level. One that reads captions is asked about the same captions
    whatever the batch.

    Args:
        recipe: how the guide was trained.
        params: its weights, replicated over the mesh.

    Returns:
        For each level, from the least noise: `gamma`, `loss` in nats, and the guide's metrics.
    """
    ends = recipe.gamma_min, recipe.gamma_max
    gammas = np.unique(np.linspace(*ends, _LEVELS, dtype=np.float32))

    read = split.captions is not None and split.captions.ids is not None
    given = {"params": params, "bank": split.captions.bank(_BANK) if read else None}

    def run(given: Params, rows: dict[str, Array], keys: Array) -> dict[str, Array]:
        x = recipe.data(given["params"], rows["image"], keys)
        noise = rng.normal(rng.stream(keys, "scoring"), x.shape, x.dtype)
        told = captions.conditions(rows)
        told |= {} if given["bank"] is None else {"bank": given["bank"]}

        def level(gamma: Array) -> dict[str, Array]:
            at = jnp.full(x.shape[0], gamma)
            z = diffuse(x, at, noise)
            return recipe.network.loss(given["params"], z, at, told, None)

        return jax.tree.map(jnp.transpose, jax.lax.map(level, jnp.asarray(gammas)))

    found = {k: v.mean(0) for k, v in how.over(run, given, split, "noise levels").items()}
    return [
        {"gamma": float(g), **{k: float(v[i]) for k, v in found.items()}}
        for i, g in enumerate(gammas)
    ]


def by_gamma(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """The rows as columns, with the keys of every "loss by gamma": `gamma`, `mean` (the loss)."""
    named = {"mean" if k == "loss" else k: [r[k] for r in rows] for k in rows[0]}
    return {k: named[k] for k in ("gamma", "mean", *sorted(named.keys() - {"gamma", "mean"}))}


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean over noise levels of everything but gamma."""
    return {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if k != "gamma"}
