"""Bits per dimension over a data set: every image once, with standard errors and a breakdown.

Every image is evaluated at `draws` times that are stratified *per image*, in two independent
replicates of `draws / 2` strata. Times come from an even mixture of uniform in t and uniform in
gamma, so that the variance of the estimate hardly depends on the schedule's shape. All noise is a
function of (seed, image number, draw), so the result does not depend on the batch size or on the
number of devices.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import OneBatch, Pass, kept
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import Objective
from diffusion_jax.model import Model, need_likelihood
from diffusion_jax.process import time_change
from diffusion_jax.process.schedules.base import endpoints, gamma_and_slope
from diffusion_jax.rng import stream
from diffusion_jax.runtime.sharding import local
from diffusion_jax.types import Array, Noise, Params, Terms


@dataclass(frozen=True)
class Records:
    """The terms of the bound for N images, with K noise draws each.

    Attributes:
        t: times, `[N, K]`.
        weight: one over the density of the times, `[N, K]`.
        prior: prior term, `[N]`, nats.
        diffusion: diffusion term, weighted, `[N, K]`, nats.
        reconstruction: reconstruction term, `[N, K]`, nats.
        dims: dimensions per image.
        auxiliary: `[N]`, nats: KL divergence of the schedule's latent, and the correction for an
            autoencoder's noise; None without either.
        prior_draws: prior term of each draw, `[N, K]`, nats; None if it is the same for all draws.
    """

    t: np.ndarray
    weight: np.ndarray
    prior: np.ndarray
    diffusion: np.ndarray
    reconstruction: np.ndarray
    dims: int
    auxiliary: np.ndarray | None = None
    prior_draws: np.ndarray | None = None

    @property
    def draws(self) -> np.ndarray:
        """The sum of all terms that depend on times and noise, `[N, K]`, nats."""
        prior = 0.0 if self.prior_draws is None else self.prior_draws
        return prior + self.diffusion + self.reconstruction

    def per_image(self) -> dict[str, np.ndarray]:
        """Total and parts per image in bits/dim, `[N]` each, averaged over draws."""
        scale = 1.0 / (self.dims * math.log(2.0))
        parts = {
            "prior": self.prior * scale,
            "diffusion": self.diffusion.mean(1) * scale,
            "reconstruction": self.reconstruction.mean(1) * scale,
        }
        if self.auxiliary is not None:
            parts["auxiliary"] = self.auxiliary * scale
        return {"total": sum(parts.values(), np.zeros(())), **parts}

    def monte_carlo_se(self) -> float:
        """Standard error of the mean, in bits/dim, from the noise draws alone."""
        return replicate_se(self.draws, self.dims)


def replicate_se(draws: np.ndarray, dims: int) -> float:
    """Standard error of the mean of `draws` `[N, K]` (nats) from the noise alone, in bits/dim.

    The two replicates a and b of a stratum differ only by noise: with K draws in K/2 strata,
    `sum (a - b)^2 / K^2` is an unbiased estimate of the variance of an image's mean.
    """
    a, b = np.split(draws, 2, axis=1)
    variance = np.square(a - b).sum(1) / draws.shape[1] ** 2
    return float(np.sqrt(variance.sum()) / len(draws) / (dims * math.log(2.0)))


def noise_of(keys: Array, draw: Array, strata: int, shape: tuple[int, ...]) -> Noise:
    """The noise of draw number `draw`, from the images' keys; its times are uniform in [0, 1].

    `shape` is the shape of one latent.
    """

    def one(key: Array) -> tuple[Array, Array, Array]:
        k_t, k_eps, k_eps0 = jax.random.split(jax.random.fold_in(key, draw), 3)
        t = (draw % strata + jax.random.uniform(k_t)) / strata
        return t, jax.random.normal(k_eps, shape), jax.random.normal(k_eps0, shape)

    t, eps, eps_0 = jax.vmap(one)(keys)
    return Noise(t, eps, eps_0, latent=stream(keys, "latent", draw))


@kept
def one_batch(model: Model, objective: Objective, draws: int, defensive: bool = True) -> OneBatch:
    """The function that `measure` maps over batches; it returns `(Terms, t, weight)`, `[B, K]`."""
    strata = draws // 2

    def run(params: Params, rows: dict[str, Array], keys: Array) -> tuple[Terms, Array, Array]:
        x, cond = model.examples(rows)

        shape = model.latent_shape(x.shape[1:])
        x = model.coded(params, x)

        def one(_: None, draw: Array) -> tuple[None, tuple[Terms, Array, Array]]:
            noise = noise_of(keys, draw, strata, shape)
            t, weight = noise.t, jnp.ones_like(noise.t)
            if defensive:
                t, weight = time_change.defensive(model.schedule, params["schedule"], t)
            terms = objective(model, params, x, cond, noise._replace(t=t))
            auxiliary = jnp.broadcast_to(terms.auxiliary, terms.prior.shape)
            terms = terms._replace(diffusion=weight * terms.diffusion, auxiliary=auxiliary)
            return None, (terms, t, weight)

        by_draw = jax.lax.scan(one, None, jnp.arange(draws))[1]
        return jax.tree.map(lambda a: a.T, by_draw)

    return run


def measure(
    model: Model,
    objective: Objective,
    params: Params,
    split: Split,
    how: Pass,
    *,
    draws: int,
    label: str = "evaluate",
    defensive: bool = True,
) -> Records:
    """Evaluates the bound on every image of `split` once.

    Args:
        params: weights, replicated over the mesh.
        draws: noise draws per image, even.
        label: name of the pass in the progress report.
        defensive: draw half of the times uniformly in gamma; otherwise all uniformly in t.

    Returns:
        The records of all images, in order.

    Raises:
        ConfigError: `draws` is odd or not positive, or the model has no likelihood.
    """
    need_likelihood(model, "a bound on the bits")
    check_draws("draws", draws)
    one = one_batch(model, objective, draws, defensive)
    terms, t, weight = how.over(one, params, split, label)
    drawn = model.traits.latent_noise or model.traits.from_latent
    return Records(
        t=t,
        weight=weight,
        # The same for all draws, unless each draws its own latent.
        prior=terms.prior.mean(1) if drawn else terms.prior[:, 0],
        prior_draws=terms.prior if drawn and np.ptp(terms.prior, axis=1).any() else None,
        diffusion=terms.diffusion,
        reconstruction=terms.reconstruction,
        dims=math.prod(split.shape),
        auxiliary=terms.auxiliary[:, 0] if model.traits.latent or terms.auxiliary.any() else None,
    )


def check_draws(name: str, draws: int) -> None:
    """Checks that a number of noise draws per image can be split into two replicates.

    Args:
        name: name of the setting, for the message.
        draws: noise draws per image.

    Raises:
        ConfigError: `draws` is odd or not positive.
    """
    if draws < 2 or draws % 2:
        raise ConfigError(f"{name}={draws} must be even and at least 2 (two replicates)")


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of `[N]` values; NaN for a single one."""
    n = len(values)
    return float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def mean_se(values: np.ndarray, name: str = "bits_per_dim") -> dict[str, float]:
    """Mean over images, as `name`, and its `standard_error` (NaN for one image)."""
    return {name: float(values.mean()), "standard_error": standard_error(values)}


def paired(a: Records, b: Records) -> dict[str, Any]:
    """The difference b - a between two models measured with the same times and noise.

    Args:
        a: records of the first model.
        b: records of the second model, for the same images and draws.

    Returns:
        JSON-able, bits/dim: `difference` and its `breakdown` (each the mean and standard error over
        images of the per-image differences), and `monte_carlo_se`.
    """
    one, two = a.per_image(), b.per_image()
    zero = np.zeros(len(a.prior))
    parts = {k: two.get(k, zero) - one.get(k, zero) for k in (one | two)}
    return {
        "difference": mean_se(parts.pop("total")),
        "breakdown": {k: mean_se(v) for k, v in parts.items()},
        "monte_carlo_se": replicate_se(b.draws - a.draws, a.dims),
    }


def summary(records: Records) -> dict[str, Any]:
    """Mean, standard errors and breakdown, in bits/dim.

    Args:
        records: from `measure`.

    Returns:
        JSON-able: `bits_per_dim`, `standard_error` (over images), `monte_carlo_se` (from the noise
        draws alone; already contained in `standard_error`), and `breakdown`, with the mean and the
        standard error of each term.
    """
    per_image = records.per_image()
    return {
        **mean_se(per_image.pop("total")),
        "monte_carlo_se": records.monte_carlo_se(),
        "breakdown": {k: mean_se(v) for k, v in per_image.items()},
        "images": len(records.prior),
        "draws_per_image": int(records.diffusion.shape[1]),
    }


def loss_by_gamma(
    model: Model, params: Params, records: Records, bins: int = 20
) -> dict[str, list[float]]:
    """The loss per unit of gamma, `1/2 E |eps - eps_hat|^2`, against gamma (continuous time).

    Plain means over the draws in each bin. `bound_variance.loss_by_gamma` differs: it weights the
    draws to make the means uniform in gamma within a bin, and also gives second moments.

    Args:
        params: weights of the model.
        records: from `measure` with the continuous-time bound.
        bins: number of equal bins in gamma.

    Returns:
        `gamma` (mean over the draws in a bin) and `mean` (bits/dim per unit of gamma); empty bins
        are left out.
    """
    schedule, t = local(params["schedule"]), jnp.asarray(records.t.ravel())
    gamma, slope = jax.device_get(gamma_and_slope(model.schedule, schedule, t))
    first, last = (float(g) for g in endpoints(model.schedule, schedule))
    width = records.weight.ravel() * slope
    density = records.diffusion.ravel() / width / (records.dims * math.log(2.0))
    position = (gamma - first) / (last - first) * bins
    index = np.clip(position.astype(int), 0, bins - 1)
    members = [index == i for i in range(bins) if np.any(index == i)]
    return {
        "gamma": [float(gamma[m].mean()) for m in members],
        "mean": [float(density[m].mean()) for m in members],
    }
