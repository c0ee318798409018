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
    training are bit for bit those of a step that has the image in the same place of its batch. In
    another place an image's latents differ by 1e-7, also from step to step, as the vectors that
    convolutions are computed in begin elsewhere.
    """
    params, x = jax.lax.optimization_barrier((params, x))
    coded = model.coded(params, x)
    return jax.lax.optimization_barrier((coded.mean, coded.std))
