"""The loss per unit of gamma, and how the schedule affects the variance of its estimates.

Let m be the loss per unit of gamma (bits/dim) for one image and one noise draw. If gamma is drawn
with density p, then `m / p` estimates the diffusion term. Its mean is the integral of `E m`
whatever p is; its second moment is the integral of `E m^2 / p`, which is least for p proportional
to `sqrt(E m^2)`. A schedule draws gamma with density `1 / gamma'`.

For a schedule with one gamma per pixel, gamma means that of the representative curve, and another
density means moving along the same per-pixel paths at another speed.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.likelihood.bpd import Records, standard_error
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
        gamma: gamma of each draw.
        slope: `gamma'` at each draw.
        loss: the estimate from each draw, bits/dim.
    """

    gamma: np.ndarray
    slope: np.ndarray
    loss: np.ndarray


def _gamma_and_slope(model: Model, params: Params, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The schedule's value and derivative at `t`, float64 of its shape."""
    run = jax.jit(lambda p, u: gamma_and_slope(model.schedule, p, u))
    values = jax.device_get(run(params["schedule"], jnp.asarray(t.ravel())))
    gamma, slope = (np.asarray(a, np.float64).reshape(t.shape) for a in values)
    return gamma, slope


def draws(model: Model, params: Params, records: Records) -> Draws:
    """Extracts the single draws from records of the continuous-time bound.

    Args:
        params: weights of the model.
        records: from `bpd.measure` with `defensive=False`.
    """
    gamma, slope = _gamma_and_slope(model, params, records.t)
    return Draws(gamma, slope, records.diffusion / (records.dims * math.log(2.0)))


def curve(model: Model, params: Params, points: int = 257) -> dict[str, list[float]]:
    """The schedule at equally spaced times.

    Args:
        params: weights of the model.
        points: number of times.

    Returns:
        `t`, `gamma`, `slope` (d gamma / dt), `snr`, and `line` (straight between the ends).
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
    """Quantiles of gamma over pixels and images, for a schedule with one gamma per pixel.

    Args:
        model: a model whose schedule has a latent.
        params: weights of the model.
        x: images in model space; the latent is drawn given them.
        key: PRNG key for the latent.
        points: number of times.

    Returns:
        `t`, and the 5% and 95% quantiles of gamma at these times, `low` and `high`.
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
    """Number of bins in gamma for a number of draws: 4 to 50, if possible with 50 draws per bin."""
    return max(4, min(50, number // 50))


def loss_by_gamma(sample: Draws, ends: tuple[float, float], bins: int) -> dict[str, list[float]]:
    """`E m` and `E m^2` in equal bins of gamma.

    Within a bin draws are weighted by `gamma'`, so that the means are uniform in gamma whatever
    the schedule's shape. `bpd.loss_by_gamma` differs: it takes plain means over the draws of an
    evaluation, at the mean gamma of each bin.

    Args:
        sample: the draws.
        ends: first and last gamma.
        bins: number of bins.

    Returns:
        `gamma` (bin centres), `mean` (of m, bits/dim per unit of gamma), `second_moment` (mean of
        `m^2`) and `draws` (number of draws); empty bins are left out.
    """
    gamma, slope, m = (a.ravel() for a in (sample.gamma, sample.slope, sample.loss / sample.slope))
    width = (ends[1] - ends[0]) / bins
    index = np.clip(((gamma - ends[0]) / width).astype(int), 0, bins - 1)

    def per_bin(values: np.ndarray) -> np.ndarray:
        return np.bincount(index, values, bins)

    count, weight = per_bin(np.ones_like(m)), per_bin(slope)
    filled = count > 0
    mean, second = (per_bin(slope * v)[filled] / weight[filled] for v in (m, m * m))
    centres = ends[0] + width * (np.arange(bins) + 0.5)
    return {
        "gamma": centres[filled].tolist(),
        "mean": mean.tolist(),
        "second_moment": second.tolist(),
        "draws": count[filled].astype(int).tolist(),
    }


def optimum(
    by_gamma: dict[str, list[float]], ends: tuple[float, float], points: int = 2001
) -> tuple[np.ndarray, np.ndarray]:
    """The density of gamma with the least variance, proportional to `sqrt(E m^2)`.

    Args:
        by_gamma: from `loss_by_gamma`; the logarithm of the second moment is interpolated between
            the bin centres and constant beyond the outer ones.
        ends: first and last gamma.
        points: number of gammas in the result.

    Returns:
        `points` equally spaced gammas from end to end, and the density there, normalised.
    """
    second = np.asarray(by_gamma["second_moment"])
    log = 0.5 * np.log(np.maximum(second, 1e-12 * second.max() + 1e-300))
    gamma = np.linspace(*ends, points)
    density = np.exp(np.interp(gamma, by_gamma["gamma"], log))
    return gamma, density / np.trapezoid(density, gamma)


def schedule_density(model: Model, params: Params, gamma: np.ndarray) -> np.ndarray:
    """The density `1 / gamma'` with which a schedule draws gamma.

    Args:
        params: weights of the model.
        gamma: values between the ends.

    Returns:
        The density, shape of `gamma`.
    """
    find = jax.jit(lambda p, g: inverse(model.schedule, p, g))
    t = jax.device_get(find(params["schedule"], jnp.asarray(gamma)))
    return 1.0 / _gamma_and_slope(model, params, t)[1]


def variance(sample: Draws, density: np.ndarray | None = None) -> dict[str, float]:
    """The variance of one draw of the diffusion term, over images, noise and gamma.

    Args:
        sample: draws under the model's own schedule.
        density: another density of gamma, evaluated at `sample.gamma`: gives the variance of draws
            from it, by reweighting the second moment without bias.

    Returns:
        `variance` in (bits/dim)^2 and its `standard_error` over images.
    """
    weight = 1.0 if density is None else 1.0 / (density * sample.slope)
    mean = sample.loss.mean()
    second = (np.square(sample.loss) * weight).mean(axis=1)
    # First order in the error of the mean, which comes from the same images.
    return {
        "variance": float(second.mean() - mean**2),
        "standard_error": standard_error(second - 2.0 * mean * sample.loss.mean(axis=1)),
    }


def variance_between_images(sample: Draws) -> float:
    """The variance of the images' own means, which no density of gamma removes.

    Args:
        sample: draws; the two halves of K are independent given the image.

    Returns:
        The covariance of the halves' means, (bits/dim)^2, without bias; it may be negative.
    """
    a, b = (half.mean(axis=1) for half in np.split(sample.loss, 2, axis=1))
    n = len(a)
    return float(((a - a.mean()) * (b - b.mean())).sum() / (n - 1)) if n > 1 else math.nan


def drawn(sample: Draws) -> dict[str, Any]:
    """Mean and variance of draws under their own density.

    Returns:
        `mean` (bits/dim) and its `standard_error` over images, and `variance` as from `variance`.
    """
    return {
        "mean": float(sample.loss.mean()),
        "standard_error": standard_error(sample.loss.mean(axis=1)),
        "variance": variance(sample)["variance"],
    }


def encoded(model: Model, params: Params, x: Array, cond: Cond, gamma: np.ndarray) -> np.ndarray:
    """Encoded data in the stored format, at each gamma.

    Args:
        model: a model with an encoder.
        params: weights of the model.
        x: data in model space, `[B, ...]`.
        gamma: values of gamma, `[G]`.

    Returns:
        `[B * G, ...]`, the G versions of one example next to each other; images are uint8, the
        decoder's nearest level.
    """

    @jax.jit
    def run(p: Params) -> Array:
        return jax.lax.map(
            lambda g: model.decoder.decode(x + model.shift(p, x, g, cond)),
            jnp.asarray(gamma, x.dtype),
        )

    images = np.asarray(jax.device_get(run(params)))
    return images.swapaxes(0, 1).reshape(-1, *x.shape[1:])


def encoder_shift(
    model: Model, params: Params, x: Array, cond: Cond, points: int = 33
) -> dict[str, list[float]]:
    """How far the encoder moves the data.

    Args:
        model: a model with an encoder.
        params: weights of the model.
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
