"""Mutual information of images and texts (or classes), from bounds at the same times and noise.

The bound on `-log p(x)` without the text minus the bound given the text estimates
`log [p(x | c) / p(x)]`, whose mean is the mutual information. Prior and reconstruction are the same
in both bounds. With e_0 the prediction of eps without the text and e_c the one given the text,

    i_diff = 1/2 E_t gamma'(t) (|eps - e_0|^2 - |eps - e_c|^2)
    i_orth = 1/2 E_t gamma'(t) |e_0 - e_c|^2.

i_orth is a sum over pixels and never negative (Kong et al. 2024). With exact predictions both equal
the information. Otherwise i_diff is too large by the gap of the bound without the text and too
small by the gap of the bound given it; the difference of i_diff and i_orth measures the errors of
the predictions. Times and noise are those of `bpd`: a function of the image's number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import OneBatch, Pass, kept
from diffusion_jax.likelihood import bpd
from diffusion_jax.likelihood.bpd import check_draws, noise_of, replicate_se
from diffusion_jax.likelihood.objectives.base import weighted
from diffusion_jax.likelihood.objectives.continuous import residual
from diffusion_jax.model import Model, need_likelihood, require
from diffusion_jax.process import time_change
from diffusion_jax.process.schedules.base import gamma_and_slope
from diffusion_jax.types import Array, Params, expand

_PREFIX = "substitute "  # of the names of arrays that replace an image's own condition


@dataclass(frozen=True)
class Measured:
    """Diffusion terms of N images under M conditions.

    Attributes:
        nats: the diffusion term of the bound, weighted, for K draws, `[N, K, M]`.
        maps: `[N, M, H, W]`, nats: each pixel's summand of i_orth, averaged over draws. Map 0
            compares the last condition with the first, map m compares condition m with m - 1. None
            if not requested.
    """

    nats: np.ndarray
    maps: np.ndarray | None


@dataclass(frozen=True)
class Chosen:
    """Conditions that are rows of a table, looked up a batch at a time.

    Attributes:
        table: the distinct conditions, `[T, ...]`.
        index: rows of the table for the M conditions of each image, `[N, M]`.
    """

    table: np.ndarray
    index: np.ndarray

    def __getitem__(self, images: np.ndarray) -> np.ndarray:
        """The conditions of the images with these indices, `[B, M, ...]`."""
        return self.table[self.index[images]]


@dataclass(frozen=True)
class _WithConditions:
    """A split, for a `Pass`, whose examples have M other conditions besides their own."""

    split: Split
    leaves: Mapping[str, np.ndarray | Chosen]

    def __len__(self) -> int:
        return len(self.split)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        substitutes = {_PREFIX + k: a[indices] for k, a in self.leaves.items()}
        return {**self.split.take(indices), **substitutes}


def check(model: Model, who: str) -> None:
    """Raises ConfigError for models whose information cannot be measured this way."""
    need_likelihood(model, who)
    require(
        model, who, "use a model with encoder='identity()' and a schedule other than mulan()",
        latent=0, per_pixel_gamma=False, time_dependent_data=False, from_latent=False,
    )  # fmt: skip
    require(
        model, who, "train with text, or labels, and text_dropout (class_dropout) above 0",
        null_class=True,
    )  # fmt: skip


@kept
def one_batch(model: Model, draws: int, maps: bool) -> OneBatch:
    """The function that `measure` maps over batches: `(nats [B, K, M], maps [B, M, H, W])`."""
    strata = draws // 2

    def run(params: Params, rows: dict[str, Array], keys: Array) -> tuple[Array, Array | None]:
        substitutes = {
            k.removeprefix(_PREFIX): jnp.swapaxes(a, 0, 1)
            for k, a in rows.items() if k.startswith(_PREFIX)
        }  # fmt: skip
        x, cond = model.examples({k: a for k, a in rows.items() if not k.startswith(_PREFIX)})
        shape = model.latent_shape(x.shape[1:])
        x = model.coded(params, x)

        def one(total: Any, draw: Array) -> tuple[Any, Array]:
            noise = noise_of(keys, draw, strata, shape)
            t, weight = time_change.defensive(model.schedule, params["schedule"], noise.t)
            gamma, slope = gamma_and_slope(model.schedule, params["schedule"], t)
            factor = 0.5 * slope * weight

            def errors(leaf: dict[str, Array]) -> Array:
                return residual(model, params, x.mean, {**cond, **leaf}, noise, gamma, x.std)

            def square(values: Array) -> Array:
                return weighted(factor, jnp.square(values))

            if not maps:
                return total, jax.lax.map(lambda leaf: square(errors(leaf)), substitutes)
            every = jax.lax.map(errors, substitutes)
            change = jnp.concatenate([every[-1:] - every[:1], every[1:] - every[:-1]])
            pixels = jnp.square(change).sum(tuple(range(4, change.ndim)))
            total = total + expand(factor, pixels[0]) * pixels / draws
            return total, jax.vmap(square)(every)

        m = len(next(iter(substitutes.values())))
        start = jnp.zeros((m, x.mean.shape[0], *shape[:2])) if maps else None
        total, nats = jax.lax.scan(one, start, jnp.arange(draws))
        nats = jnp.transpose(nats, (2, 0, 1))
        return nats, None if total is None else jnp.swapaxes(total, 0, 1)

    return run


def measure(
    model: Model,
    params: Params,
    split: Split,
    how: Pass,
    conditions: Mapping[str, np.ndarray | Chosen],
    *,
    draws: int,
    maps: bool = False,
    label: str = "information",
) -> Measured:
    """The diffusion term of every image of `split` under the given conditions.

    Args:
        model: a model that passes `check`.
        params: weights, replicated over the mesh.
        split: the data; only the images that `how` covers are used.
        how: the pass over the split.
        conditions: arrays `[N, M, ...]` that replace entries of the images' own conditions.
        draws: noise draws per image, even.
        maps: whether predictions are also compared pixel by pixel.
        label: name of the pass in the progress report.

    Raises:
        ConfigError: `draws` is odd or not positive.
    """
    check_draws("draws", draws)
    examples: Any = _WithConditions(split, conditions)
    nats, pixels = how.over(one_batch(model, draws, maps), params, examples, label)
    return Measured(nats, pixels)


def bits(nats: np.ndarray) -> dict[str, float]:
    """Mean and errors of differences of bounds measured with the same draws, in bits per image.

    Args:
        nats: the differences, `[N, K]`, nats.

    Returns:
        `bits` (the mean), `standard_error` (over images), and `monte_carlo_se` (the part of it due
        to the draws).
    """
    return {**mean_se(nats.mean(1) / math.log(2.0)), "monte_carlo_se": replicate_se(nats, 1)}


def apart(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """`bits` of a - b, and `unpaired_se`: the Monte-Carlo error if their draws were independent."""
    return {**bits(a - b), "unpaired_se": math.hypot(*(replicate_se(v, 1) for v in (a, b)))}


def mean_se(values: np.ndarray) -> dict[str, float]:
    """Mean over images, `bits`, and its `standard_error` (NaN for one image)."""
    return bpd.mean_se(values, "bits")


def inside(maps: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """The share of the maps' bits that lies inside a region of each image.

    Args:
        maps: `[N, H, W]`, not negative.
        where: the regions, bool, `[N, H, W]`.

    Returns:
        `share`, its `standard_error` over images, and `area`, the share expected by chance.
    """
    within, every = (maps * where).sum((1, 2)), maps.sum((1, 2))
    share, n = within.sum() / every.sum(), len(maps)
    squares = np.square(within - share * every).sum() * n
    error = math.sqrt(squares / (n - 1)) / every.sum() if n > 1 else math.nan
    return {"share": float(share), "standard_error": error, "area": float(where.mean())}


def mixed(nats: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """`-log sum_k p_k exp(-L_k)`, `[N]`: like each L, a bound on `-log p(x)` without some terms.

    The logarithm makes noise in the bounds bias it downwards, more so with fewer draws.

    Args:
        nats: bounds `[N, K, M]`, for all possible captions.
        probability: probability of each caption, `[M]`.
    """
    score = np.log(probability) - nats.mean(1)
    top = score.max(1, keepdims=True)
    return -(np.log(np.exp(score - top).sum(1)) + top[:, 0])


def lift(nats: np.ndarray, probability: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Bits, `[N]`, by which an image's own caption beats the mixture of all; see `mixture`."""
    own_nats = nats.mean(1)[np.arange(len(true)), true]
    return (mixed(nats, probability) - own_nats) / math.log(2.0)


def mixture(nats: np.ndarray, probability: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """The information with the mixture of all captions in place of the bound without text.

    By construction it is at most the entropy of the captions.

    Args:
        nats: as in `mixed`.
        probability: as in `mixed`.
        true: index of each image's own caption, `[N]`.

    Returns:
        `bits` per image and their `standard_error`, and `half`, the bits with half of the draws.
    """
    few = np.mean([lift(h, probability, true) for h in np.split(nats, 2, axis=1)], axis=0)
    return {**mean_se(lift(nats, probability, true)), "half": mean_se(few)["bits"]}


def retrieval(nats: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """How often an image's own caption has the least bound of all M; ties count fractionally."""
    bound = nats.mean(1)
    least = bound == bound.min(1, keepdims=True)
    right = least[np.arange(len(true)), true] / least.sum(1)
    p, n = float(right.mean()), len(right)
    return {"accuracy": p, "standard_error": math.sqrt(p * (1.0 - p) / n), "among": nats.shape[2]}
