"""Out-of-distribution scores, and how well they tell other data from a model's own.

Two kinds, per image: bits/dim, and how badly the model reconstructs the image from its noisy
version at a fixed gamma (Graham et al. 2023). Higher should mean stranger. Bits/dim are known to
fail in that (Nalisnick et al. 2019): simple images cost few bits whether they belong or not.
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
    """The probability that a stranger scores higher, ties counting half, and its standard error.

    Args:
        inside: scores of the model's own data, `[M]`.
        outside: scores of the strangers, `[N]`.

    Returns:
        `auroc`: 0.5 for scores that say nothing; and `standard_error`, of DeLong et al. (1988).
    """

    def below(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
        ordered = np.sort(values)
        left, right = (np.searchsorted(ordered, scores, side=s) for s in ("left", "right"))
        return 0.5 * (left + right) / len(values)

    lower, higher = below(inside, outside), 1.0 - below(outside, inside)
    spread = [v.var(ddof=1) / len(v) if len(v) > 1 else math.nan for v in (lower, higher)]
    return {"auroc": float(lower.mean()), "standard_error": math.sqrt(sum(spread))}


def check(split: Split, shape: tuple[int, ...], levels: int) -> Split:
    """Returns a split if the model can score it.

    Args:
        shape: of the model's images.
        levels: of the model's images.

    Raises:
        DataError: another shape, or another number of levels.
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
    """The split without classes, texts and vectors of a CLIP: a stranger has none."""
    labels = np.full(len(split), model.num_classes, np.int32)
    return dataclasses.replace(split, labels=labels, num_classes=0, captions=None, embedding=None)


@kept
def _one_batch(model: Model, gammas: tuple[float, ...], draws: int) -> OneBatch:
    def run(params: Params, rows: dict[str, Array], keys: Array) -> Array:
        x, given = model.examples(rows)
        denoise, data = model.denoiser(params), x
        coded = model.coded(params, x)

        def at(gamma: Array, draw: Array) -> Array:
            latent = stream(keys, "latent", draw)
            x = drawn(model, params, coded, latent)[0].mean
            eps = normal(stream(keys, "eps", draw), x.shape)
            _, cond, _ = model.condition(params, x, given, latent)
            z = diffuse(x + model.shift(params, x, gamma, cond), gamma, eps)
            guess = denoise(z, gamma, cond).x
            if not model.traits.pixels:
                guess = model.decoder.encode(model.decode(params, guess))
            return total(jnp.square(guess - data)) / math.prod(data.shape[1:])

        grid = jnp.meshgrid(jnp.asarray(gammas), jnp.arange(draws), indexing="ij")
        found = jax.lax.map(lambda row: at(*row), tuple(a.ravel() for a in grid))
        return found.reshape(len(gammas), draws, -1).mean(1).T

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
    """Mean squares of `x_hat(z) - x` per image, averaged over draws of the noise.

    Args:
        params: weights, replicated over the mesh.
        draws: of the noise, per image and gamma.

    Returns:
        `[N, gammas]`, model units.
    """
    run = _one_batch(model, tuple(gammas), draws)
    return how.over(run, params, split, f"reconstruct {split.name}")
