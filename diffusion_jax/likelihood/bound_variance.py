"""What a schedule costs in noise: the loss per unit of gamma, and the variance of its estimates.

With m the loss per unit of gamma (bits/dim) of one image and one noise, a draw of gamma with
density p estimates the diffusion term as `m / p`. Its mean is that of m's integral whatever p is;
its second moment is the integral of `E m^2 / p`, least for p proportional to `sqrt(E m^2)`. A
schedule draws gamma with density `1 / gamma'`.

For a schedule with one gamma per pixel, gamma is that of the representative curve, and another
density is another speed on the same pixels' paths.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.likelihood.bpd import Records
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import (
    LATENT,
    endpoints,
    gamma_and_slope,
    inverse,
    latent_posterior,
)
from diffusion_jax.types import Array, Cond, Params


@dataclass(frozen=True)
class Draws:
    """Single draws of the diffusion term, at times uniform in t; all `[N, K]`.

    Attributes:
        gamma: where.
        slope: `gamma'` there.
        loss: the estimate, bits/dim.
    """

    gamma: np.ndarray
    slope: np.ndarray
    loss: np.ndarray


def _gamma_and_slope(model: Model, params: Params, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The schedule's value and derivative at `t`, float64 of its shape."""
    run = jax.jit(lambda p, u: gamma_and_slope(model.schedule, p, u))
    found = jax.device_get(run(params["schedule"], jnp.asarray(t.ravel())))
    gamma, slope = (np.asarray(a, np.float64).reshape(t.shape) for a in found)
    return gamma, slope


def draws(model: Model, params: Params, records: Records) -> Draws:
    """The draws of a measurement with the continuous-time bound.

    Args:
        params: its weights.
        records: from `bpd.measure` with `defensive=False`.

    Returns:
        The draws.
    """
    gamma, slope = _gamma_and_slope(model, params, records.t)
    return Draws(gamma, slope, records.diffusion / (records.dims * math.log(2.0)))


def curve(model: Model, params: Params, points: int = 257) -> dict[str, list[float]]:
    """The schedule at equal steps of time.

    Args:
        params: its weights.
        points: number of times.

    Returns:
        `t`, `gamma`, `slope` (d gamma / dt), `snr` and `line`, the straight line between the ends.
    """
    t = np.linspace(0.0, 1.0, points)
    gamma, slope = _gamma_and_slope(model, params, t)
    out = {
        "t": t,
        "gamma": gamma,
        "slope": slope,
        "snr": np.exp(-gamma),
        "line": np.linspace(gamma[0], gamma[-1], points),
    }
    return {k: v.tolist() for k, v in out.items()}


def spread(
    model: Model, params: Params, x: Array, key: Array, points: int = 65
) -> dict[str, list[float]]:
    """Quantiles over pixels and images of a schedule that has one gamma per pixel.

    Args:
        model: a model whose schedule has a latent.
        params: its weights.
        x: images in model space; the latent is drawn given them.
        key: PRNG key of the latent.
        points: number of times.

    Returns:
        `t`, and the 5 % and 95 % quantiles of gamma there, `low` and `high`.
    """

    @jax.jit
    def paths(p: Params) -> Array:
        latent, _ = latent_posterior(model.schedule)(p, x, jax.random.split(key, len(x)))
        t = jnp.linspace(0.0, 1.0, points)
        gamma = jax.vmap(lambda u: model.schedule.gamma({**p, LATENT: latent}, u))(t)
        levels = jnp.asarray([0.05, 0.95])
        return jnp.quantile(gamma.reshape(points, -1), levels, axis=1)

    low, high = np.asarray(jax.device_get(paths(params["schedule"])), np.float64)
    return {
        "t": np.linspace(0.0, 1.0, points).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def bins_for(number: int) -> int:
    """Bins of gamma for a number of draws: 50, or fewer where a bin would have few draws."""
    return max(4, min(50, number // 50))


def loss_by_gamma(found: Draws, ends: tuple[float, float], bins: int) -> dict[str, list[float]]:
    """`E m` and `E m^2` in equal bins of gamma.

    Args:
        found: the draws.
        ends: first and last gamma.
        bins: number of bins.

    Returns:
        `gamma` (bin centres), `mean` (bits/dim per unit of gamma), `second_moment` (its square's
        mean) and `draws` (how many were seen); empty bins are left out.
    """
    gamma, slope, m = (a.ravel() for a in (found.gamma, found.slope, found.loss / found.slope))
    width = (ends[1] - ends[0]) / bins
    index = np.clip(((gamma - ends[0]) / width).astype(int), 0, bins - 1)

    def per_bin(values: np.ndarray) -> np.ndarray:
        return np.bincount(index, values, bins)

    count, weight = per_bin(np.ones_like(m)), per_bin(slope)
    seen = count > 0
    mean, second = (per_bin(slope * v)[seen] / weight[seen] for v in (m, m * m))
    centres = ends[0] + width * (np.arange(bins) + 0.5)
    return {
        "gamma": centres[seen].tolist(),
        "mean": mean.tolist(),
        "second_moment": second.tolist(),
        "draws": count[seen].astype(int).tolist(),
    }


def optimum(
    by_gamma: dict[str, list[float]], ends: tuple[float, float], points: int = 2001
) -> tuple[np.ndarray, np.ndarray]:
    """The density of least variance, proportional to `sqrt(E m^2)`.

    Args:
        by_gamma: from `loss_by_gamma`; its logarithm is interpolated between the bin centres and
            constant beyond the outer ones.
        ends: first and last gamma.
        points: where to give it.

    Returns:
        `points` equally spaced gammas from end to end, and the density there, of integral one.
    """
    second = np.asarray(by_gamma["second_moment"])
    log = 0.5 * np.log(np.maximum(second, 1e-12 * second.max() + 1e-300))
    gamma = np.linspace(*ends, points)
    density = np.exp(np.interp(gamma, by_gamma["gamma"], log))
    return gamma, density / np.trapezoid(density, gamma)


def schedule_density(model: Model, params: Params, gamma: np.ndarray) -> np.ndarray:
    """The density `1 / gamma'` with which a schedule draws gamma.

    Args:
        params: its weights.
        gamma: where, within the ends.

    Returns:
        The density, shape of `gamma`.
    """
    find = jax.jit(lambda p, g: inverse(model.schedule, p, g))
    t = jax.device_get(find(params["schedule"], jnp.asarray(gamma)))
    return 1.0 / _gamma_and_slope(model, params, t)[1]


def variance(found: Draws, density: np.ndarray | None = None) -> dict[str, float]:
    """The variance of one draw of the diffusion term, over images, noise and gamma.

    Args:
        found: draws under the model's own schedule.
        density: another density of gamma, at `found.gamma`, to draw with instead; the second
            moment is reweighted, without bias.

    Returns:
        `variance` in (bits/dim)^2 and its `standard_error` over images.
    """
    weight = 1.0 if density is None else 1.0 / (density * found.slope)
    mean = found.loss.mean()
    second = (np.square(found.loss) * weight).mean(axis=1)
    # To first order in the error of the mean, which the same images decide.
    return {
        "variance": float(second.mean() - mean**2),
        "standard_error": _standard_error(second - 2.0 * mean * found.loss.mean(axis=1)),
    }


def variance_between_images(found: Draws) -> float:
    """The part of the variance that no density of gamma removes: that of the images' own means.

    Args:
        found: the draws; the two halves of K are independent given the image.

    Returns:
        The covariance of the halves' means, (bits/dim)^2, without bias; it may be negative.
    """
    a, b = (half.mean(axis=1) for half in np.split(found.loss, 2, axis=1))
    n = len(a)
    return float(((a - a.mean()) * (b - b.mean())).sum() / (n - 1)) if n > 1 else math.nan


def drawn(found: Draws) -> dict[str, Any]:
    """Mean and variance of draws that were made with the density in question.

    Args:
        found: the draws.

    Returns:
        `mean` (bits/dim) and its `standard_error` over images, and `variance` as from `variance`.
    """
    return {
        "mean": float(found.loss.mean()),
        "standard_error": _standard_error(found.loss.mean(axis=1)),
        "variance": variance(found)["variance"],
    }


def _standard_error(values: np.ndarray) -> float:
    n = len(values)
    return float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def encoded(model: Model, params: Params, x: Array, cond: Cond, gamma: np.ndarray) -> np.ndarray:
    """Encoded data as stored, with all gammas of one example after another.

    Args:
        model: a model with an encoder.
        params: its weights.
        x: data in model space, `[B, ...]`.
        gamma: `[G]`.

    Returns:
        `[B * G, ...]`, for images uint8: the decoder's nearest level.
    """

    @jax.jit
    def run(p: Params) -> Array:
        return jax.lax.map(
            lambda g: model.decoder.decode(x + model.shift(p, x, g, cond)),
            jnp.asarray(gamma, x.dtype),
        )

    found = np.asarray(jax.device_get(run(params)))
    return found.swapaxes(0, 1).reshape(-1, *x.shape[1:])


def encoder_shift(
    model: Model, params: Params, x: Array, cond: Cond, points: int = 33
) -> dict[str, list[float]]:
    """How far the encoder moves the data.

    Args:
        model: a model with an encoder.
        params: its weights.
        x: data in model space, `[B, ...]`.
        points: number of gammas.

    Returns:
        `gamma` and `rms`, the root mean square of `x_t - x` over examples and dimensions.
    """

    @jax.jit
    def run(p: Params) -> tuple[Array, Array]:
        gamma = jnp.linspace(*endpoints(model.schedule, p["schedule"]), points)
        squares = jax.lax.map(lambda g: jnp.square(model.shift(p, x, g, cond)).mean(), gamma)
        return gamma, jnp.sqrt(squares)

    gamma, rms = jax.device_get(run(params))
    return {"gamma": gamma.tolist(), "rms": rms.tolist()}
