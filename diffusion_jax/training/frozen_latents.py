"""Latents of a frozen autoencoder, computed in the step or once before training."""

import jax

from diffusion_jax.model import Model
from diffusion_jax.types import Array, Coded, Params


def latents(model: Model, params: Params, x: Array, batch: dict[str, Array]) -> Coded:
    """The data with their latents, taken from `batch` or computed here."""
    if "mean" in batch:
        return Coded(x, batch["mean"], batch.get("std"))
    return Coded(x, *encoded(model, params, x))


def encoded(model: Model, params: Params, x: Array) -> tuple[Array, Array | None]:
    """Mean and standard deviation of the latents.

    Optimisation barriers keep the computation separate, so that latents computed before training
    equal bit for bit those of a step that has the image at the same place in its batch. At another
    place they differ by 1e-7, because the vectorised loops of convolutions start elsewhere.
    """
    params, x = jax.lax.optimization_barrier((params, x))
    coded = model.coded(params, x)
    return jax.lax.optimization_barrier((coded.mean, coded.std))
