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
_BANK = 512  # captions that each image is compared with


def measure(recipe: Recipe, params: Params, split: Split, how: Pass) -> list[dict[str, float]]:
    """Mean loss and metrics over a split, every image once at each of nine noise levels.

    A guide for clean images has one level only. A guide that reads captions compares all images
    with the same captions, regardless of the batch.

    Args:
        recipe: how the guide was trained.
        params: the guide's weights, replicated over the mesh.
        split: images to measure on.
        how: the pass over the split.

    Returns:
        One row for each level, least noise first: `gamma`, `loss` in nats, and the guide's metrics.
    """
    ends = recipe.gamma_min, recipe.gamma_max
    gammas = np.unique(np.linspace(*ends, _LEVELS, dtype=np.float32))

    tokenised = split.captions is not None and split.captions.ids is not None
    inputs = {"params": params, "bank": split.captions.bank(_BANK) if tokenised else None}

    def run(inputs: Params, rows: dict[str, Array], keys: Array) -> dict[str, Array]:
        x = recipe.data(inputs["params"], rows["image"], keys)
        noise = rng.normal(rng.stream(keys, "scoring"), x.shape, x.dtype)
        cond = captions.conditions(rows)
        if inputs["bank"] is not None:
            cond["bank"] = inputs["bank"]

        def level(gamma: Array) -> dict[str, Array]:
            gammas_of_batch = jnp.full(x.shape[0], gamma)
            z = diffuse(x, gammas_of_batch, noise)
            return recipe.network.loss(inputs["params"], z, gammas_of_batch, cond, None)

        return jax.tree.map(jnp.transpose, jax.lax.map(level, jnp.asarray(gammas)))

    means = {k: v.mean(0) for k, v in how.over(run, inputs, split, "noise levels").items()}
    return [
        {"gamma": float(g), **{k: float(v[i]) for k, v in means.items()}}
        for i, g in enumerate(gammas)
    ]


def by_gamma(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Turns rows into columns named as in every "loss by gamma" table; `loss` becomes `mean`."""
    named = {"mean" if k == "loss" else k: [r[k] for r in rows] for k in rows[0]}
    return {k: named[k] for k in ("gamma", "mean", *sorted(named.keys() - {"gamma", "mean"}))}


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every column except gamma over the noise levels."""
    return {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if k != "gamma"}
