"""What a text, or a class, and an image tell of each other: bounds at the same times and noise.

The bound on `-log p(x)` without the text minus the bound given it estimates
`log [p(x | c) / p(x)]`, of which the mean is the mutual information. Prior and reconstruction are
the same in both; with eps_hat = e_0 without the text and e_c given it,

    i_diff = 1/2 E_t gamma'(t) (|eps - e_0|^2 - |eps - e_c|^2)
    i_orth = 1/2 E_t gamma'(t) |e_0 - e_c|^2,

the latter never negative and a sum over pixels (Kong et al. 2024). With exact predictions both are
the information; otherwise i_diff is too large by the gap of the bound without the text, and too
small by that of the other, and their difference tells of errors in training. Noise of an image is a
function of its number, as in `bpd`, and the times are `bpd`'s.
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
from diffusion_jax.likelihood.bpd import check_draws, noise_of, replicate_se
from diffusion_jax.likelihood.objectives.base import weighted
from diffusion_jax.likelihood.objectives.continuous import miss
from diffusion_jax.model import Model, need_likelihood, require
from diffusion_jax.process import time_change
from diffusion_jax.process.schedules.base import gamma_and_slope
from diffusion_jax.types import Array, Params, expand

_TOLD = "told "  # begins the names of what is put in place of an image's own condition


@dataclass(frozen=True)
class Measured:
    """What one pass measured of N images under M conditions.

    Attributes:
        nats: the diffusion term of the bound, `[N, K, M]`; weighted, K draws.
        maps: `[N, M, H, W]`, nats: the summand of i_orth for each pixel, averaged over draws.
            Number 0 is of the last condition against the first, m of number m against m - 1. None
            if not asked for.
    """

    nats: np.ndarray
    maps: np.ndarray | None


@dataclass(frozen=True)
class Chosen:
    """Conditions that are rows of a table, looked up a batch at a time.

    Attributes:
        table: `[T, ...]`, each once.
        index: of the M conditions of each image, `[N, M]`.
    """

    table: np.ndarray
    index: np.ndarray

    def __getitem__(self, images: np.ndarray) -> np.ndarray:
        """Those of some images, `[B, M, ...]`."""
        return self.table[self.index[images]]


@dataclass(frozen=True)
class _Told:
    """A split with M conditions for each example beside its own: what a `Pass` reads."""

    split: Split
    leaves: Mapping[str, np.ndarray | Chosen]

    def __len__(self) -> int:
        return len(self.split)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        more = {_TOLD + k: a[indices] for k, a in self.leaves.items()}
        return {**self.split.take(indices), **more}


def check(model: Model, who: str) -> None:
    """Refuses (`ConfigError`) models of which this cannot be measured."""
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
    """What `measure` makes of a batch: `(nats [B, K, M], maps [B, M, H, W] or None)`."""
    strata = draws // 2

    def run(params: Params, rows: dict[str, Array], keys: Array) -> tuple[Array, Array | None]:
        told = {k: jnp.swapaxes(rows[k], 0, 1) for k in rows if k.startswith(_TOLD)}
        told = {k.removeprefix(_TOLD): a for k, a in told.items()}
        x, cond = model.examples({k: a for k, a in rows.items() if not k.startswith(_TOLD)})
        shape = model.latent_shape(x.shape[1:])
        x = model.coded(params, x)

        def one(total: Any, draw: Array) -> tuple[Any, Array]:
            noise = noise_of(keys, draw, strata, shape)
            t, weight = time_change.defensive(model.schedule, params["schedule"], noise.t)
            gamma, slope = gamma_and_slope(model.schedule, params["schedule"], t)
            factor = 0.5 * slope * weight

            def missed(leaf: dict[str, Array]) -> Array:
                return miss(model, params, x.mean, {**cond, **leaf}, noise, gamma, x.std)

            def square(found: Array) -> Array:
                return weighted(factor, jnp.square(found))

            if not maps:
                return total, jax.lax.map(lambda leaf: square(missed(leaf)), told)
            found = jax.lax.map(missed, told)
            apart = jnp.concatenate([found[-1:] - found[:1], found[1:] - found[:-1]])
            pixels = jnp.square(apart).sum(tuple(range(4, apart.ndim)))
            total = total + expand(factor, pixels[0]) * pixels / draws
            return total, jax.vmap(square)(found)

        m = len(next(iter(told.values())))
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
    told: Mapping[str, np.ndarray | Chosen],
    *,
    draws: int,
    maps: bool = False,
    label: str = "information",
) -> Measured:
    """The diffusion term of every image of `split` under conditions of one's choice.

    Args:
        model: that `check` lets pass.
        params: weights, replicated over the mesh.
        split: of it only the images that `how` covers.
        how: the pass.
        told: leaves of the condition, `[N, M, ...]`, in place of an image's own.
        draws: times per image, even.
        maps: whether predictions are also compared by pixel.
        label: what the progress report calls it.

    Raises:
        ConfigError: `draws` is odd or not positive.
    """
    check_draws("draws", draws)
    asked: Any = _Told(split, told)
    nats, found = how.over(one_batch(model, draws, maps), params, asked, label)
    return Measured(nats, found)


def bits(nats: np.ndarray) -> dict[str, float]:
    """Differences of bounds by the same draws, nats `[N, K]`, as bits per image.

    Returns:
        `bits`, the mean; `standard_error`, over images; `monte_carlo_se`, the part of it that is
        from the draws.
    """
    return {**mean_se(nats.mean(1) / math.log(2.0)), "monte_carlo_se": replicate_se(nats, 1)}


def apart(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """`bits` of a - b, and `unpaired_se`: what `monte_carlo_se` is with other draws for each."""
    return {**bits(a - b), "unpaired_se": math.hypot(*(replicate_se(v, 1) for v in (a, b)))}


def mean_se(values: np.ndarray) -> dict[str, float]:
    """Mean over images and its standard error; unknown from a single image."""
    n = len(values)
    se = values.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return {"bits": float(values.mean()), "standard_error": float(se)}


def inside(maps: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """The share of maps' bits that lies in a part of each image.

    Args:
        maps: `[N, H, W]`, not negative.
        where: bool, likewise.

    Returns:
        `share`, its `standard_error` over images, and `area`, the share that chance would find.
    """
    found, every = (maps * where).sum((1, 2)), maps.sum((1, 2))
    share, n = found.sum() / every.sum(), len(maps)
    apart = np.square(found - share * every).sum() * n
    error = math.sqrt(apart / (n - 1)) / every.sum() if n > 1 else math.nan
    return {"share": float(share), "standard_error": error, "area": float(where.mean())}


def mixed(nats: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """`-log sum_k p_k exp(-L_k)`, `[N]`: a bound on `-log p(x)` too, up to what is left out of L.

    The logarithm is concave in the bounds: noise makes it too small, the more the fewer draws.

    Args:
        nats: `[N, K, M]`, of all captions there are.
        probability: of each, `[M]`.
    """
    score = np.log(probability) - nats.mean(1)
    top = score.max(1, keepdims=True)
    return -(np.log(np.exp(score - top).sum(1)) + top[:, 0])


def lift(nats: np.ndarray, probability: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Bits of each image, `[N]`, by which its own caption is above the mixture; see `mixture`."""
    own = nats.mean(1)[np.arange(len(true)), true]
    return (mixed(nats, probability) - own) / math.log(2.0)


def mixture(nats: np.ndarray, probability: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """The information by the mixture of all captions: no more than their entropy, by construction.

    Args:
        nats: as in `mixed`.
        probability: likewise.
        true: which caption is an image's own, `[N]`.

    Returns:
        Bits per image as `apart`, and `half`, the same with half of the draws.
    """
    few = np.mean([lift(h, probability, true) for h in np.split(nats, 2, axis=1)], axis=0)
    return {**mean_se(lift(nats, probability, true)), "half": mean_se(few)["bits"]}


def retrieval(nats: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """How often the image's own caption has the least bound of all M; equals share."""
    bound = nats.mean(1)
    least = bound == bound.min(1, keepdims=True)
    right = least[np.arange(len(true)), true] / least.sum(1)
    p, n = float(right.mean()), len(right)
    return {"accuracy": p, "standard_error": math.sqrt(p * (1.0 - p) / n), "among": nats.shape[2]}
