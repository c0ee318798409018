"""Out-of-distribution scores, and how well they separate other data from a model's own.

There are two scores per image: bits/dim, and the error of reconstructing the image from a noisy
version of it at a fixed gamma (Graham et al. 2023). Higher should mean further out of distribution.
Bits/dim are known to fail at this (Nalisnick et al. 2019): simple images cost few bits, whether
they are in distribution or not.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import OneBatch, Pass, kept
from diffusion_jax.errors import DataError
from diffusion_jax.likelihood.objectives.base import drawn, total
from diffusion_jax.model import Model
from diffusion_jax.rng import normal, stream
from diffusion_jax.types import Array, Params, diffuse


def auroc(inside: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """The probability that outside data score higher than inside data; ties count half.

    Args:
        inside: scores of in-distribution data, `[M]`.
        outside: scores of other data, `[N]`.

    Returns:
        `auroc` (0.5 for uninformative scores) and its `standard_error` (DeLong et al. 1988).
    """

    def below(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
        ordered = np.sort(values)
        left, right = (np.searchsorted(ordered, scores, side=s) for s in ("left", "right"))
        return 0.5 * (left + right) / len(values)

    lower, higher = below(inside, outside), 1.0 - below(outside, inside)
    spread = [v.var(ddof=1) / len(v) if len(v) > 1 else math.nan for v in (lower, higher)]
    return {"auroc": float(lower.mean()), "standard_error": math.sqrt(sum(spread))}


def check(split: Split, shape: tuple[int, ...], levels: int) -> Split:
    """Returns `split` if the model can score it.

    Args:
        shape: shape of the model's images.
        levels: number of levels of the model's images.

    Raises:
        DataError: the split has another shape or another number of levels.
    """
    if split.levels != levels:
        raise DataError(
            f"{split.name} has {split.levels} levels, the model needs {levels}; compare data with "
            "the same number of levels"
        )
    if tuple(split.shape) != tuple(shape):
        raise DataError(
            f"{split.name} has images of shape {tuple(split.shape)}, the model needs "
            f"{tuple(shape)}; convert them: resized(..., size={shape[0]}, channels={shape[-1]})"
        )
    return split


def unlabelled(split: Split, model: Model) -> Split:
    """The split without classes, texts and CLIP embeddings, which other data do not have."""
    labels = np.full(len(split), model.num_classes, np.int32)
    return dataclasses.replace(split, labels=labels, num_classes=0, captions=None, embedding=None)


@kept
def _one_batch(model: Model, gammas: tuple[float, ...], draws: int) -> OneBatch:
    def run(params: Params, rows: dict[str, Array], keys: Array) -> Array:
        x, own_cond = model.examples(rows)
        denoise, data = model.denoiser(params), x
        coded = model.coded(params, x)

        def at(gamma: Array, draw: Array) -> Array:
            latent = stream(keys, "latent", draw)
            x = drawn(model, params, coded, latent)[0].mean
            eps = normal(stream(keys, "eps", draw), x.shape)
            _, cond, _ = model.condition(params, x, own_cond, latent)
            z = diffuse(x + model.shift(params, x, gamma, cond), gamma, eps)
            guess = denoise(z, gamma, cond).x
            if not model.traits.pixels:
                guess = model.decoder.encode(model.decode(params, guess))
            return total(jnp.square(guess - data)) / math.prod(data.shape[1:])

        grid = jnp.meshgrid(jnp.asarray(gammas), jnp.arange(draws), indexing="ij")
        errors = jax.lax.map(lambda row: at(*row), tuple(a.ravel() for a in grid))
        return errors.reshape(len(gammas), draws, -1).mean(1).T

    return run


def reconstruction_errors(
    model: Model,
    params: Params,
    split: Split,
    how: Pass,
    gammas: tuple[float, ...],
    *,
    draws: int,
) -> np.ndarray:
    """Mean square of `x_hat(z) - x` for each image, averaged over noise draws.

    Args:
        params: weights, replicated over the mesh.
        draws: noise draws per image and gamma.

    Returns:
        Errors `[N, gammas]`, in model units.
    """
    run = _one_batch(model, tuple(gammas), draws)
    return how.over(run, params, split, f"reconstruct {split.name}")
