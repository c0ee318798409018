"""Latents of an autoencoder that is not trained: encoded in the step, or once before training."""

import jax

from diffusion_jax.model import Model
from diffusion_jax.types import Array, Coded, Params


def latents(model: Model, params: Params, x: Array, batch: dict[str, Array]) -> Coded:
    """The data with their latents: encoded here, or taken from `batch`."""
    if "mean" in batch:
        return Coded(x, batch["mean"], batch.get("std"))
    return Coded(x, *encoded(model, params, x))


def encoded(model: Model, params: Params, x: Array) -> tuple[Array, Array | None]:
    """Mean and deviation of latents.

    The computation is fused with nothing around it, so that latents which were computed before
    training are those of the step, up to the last bits of another program.
    """
    params, x = jax.lax.optimization_barrier((params, x))
    coded = model.coded(params, x)
    return jax.lax.optimization_barrier((coded.mean, coded.std))
