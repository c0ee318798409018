"""The rate-distortion curve implied by a bound, without a codec.

A decoder that has received `z_T, ..., z_i` of a model with T steps has been sent
`KL(q(z_T | x) || p) + sum_{j > i} KL_j` nats (and the schedule's latent, if there is one), and its
best guess of the data is `x_hat(z_i)` (Ho et al. 2020, section 4.3). Here `z_i` is drawn from
`q(z_i | x)`, which is what an ideal channel code would deliver.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import OneBatch, Pass, kept
from diffusion_jax.likelihood.bpd import mean_se
from diffusion_jax.likelihood.objectives.base import drawn, prior, reconstruction, total
from diffusion_jax.likelihood.objectives.discrete import step
from diffusion_jax.model import Model, need_likelihood
from diffusion_jax.runtime.sharding import local
from diffusion_jax.types import Array, Cond, Noise, Params, diffuse

_EXACT = 1e-10  # least mean squared error, so that PSNR is finite (grey levels squared)


@dataclass(frozen=True)
class RateDistortion:
    """Rates and errors of N images at every step.

    Attributes:
        start: `[N]`, nats: the prior term, the divergence of the schedule's latent, and the
            correction for an autoencoder's noise.
        kl: divergence of each step, the step nearest to the data first, `[N, T]`, nats.
        reconstruction: reconstruction term, `[N]`, nats.
        error: `[N, T + 1]`: mean square of `x_hat - x` at gamma of `i / T`, model units; with an
            autoencoder, of the decoded guess.
        dims: dimensions per image.
    """

    start: np.ndarray
    kl: np.ndarray
    reconstruction: np.ndarray
    error: np.ndarray
    dims: int

    def rate(self) -> np.ndarray:
        """The rate when stopping at `i / T`, `[N, T + 1]`, bits/dim."""
        after = np.cumsum(self.kl[:, ::-1], axis=1)[:, ::-1]
        sent = np.concatenate([after, np.zeros((len(after), 1))], axis=1)
        return (self.start[:, None] + sent) / (self.dims * math.log(2.0))

    def total(self) -> np.ndarray:
        """The bound, `[N]`, bits/dim."""
        nats = self.start + self.kl.sum(1) + self.reconstruction
        return nats / (self.dims * math.log(2.0))


def one(
    model: Model, params: Params, x: Array, cond: Cond, noise: Noise, i: Array, steps: int
) -> tuple[Array, Array]:
    """The divergence of step `i` of the bound, and the error of the guess `x_hat(z_i)`.

    Args:
        params: weights of the model.
        x: data in model space, `[B, ...]`.
        noise: the noise; its times are not used.
        i: number of the step, 1 to `steps`.
        steps: number of steps, T.

    Returns:
        The divergence of the step, nats, and the mean square of `x_hat - x`, `[B]` each.
    """
    coded, _ = drawn(model, params, model.coded(params, x), noise.latent)
    schedule, cond, _ = model.condition(params, coded.mean, cond, noise.latent)
    kl, pred = step(model, params, schedule, coded.mean, cond, noise, i, steps)
    return kl, _mean_square(_to_pixels(model, params, pred.x) - coded.data)


def _to_pixels(model: Model, params: Params, guessed: Array) -> Array:
    """A guess of what diffuses (pixels or latents) as pixels in model space."""
    return guessed if model.traits.pixels else model.decoder.encode(model.decode(params, guessed))


def guess(
    model: Model, params: Params, x: Array, cond: Cond, noise: Noise, t: Array | float
) -> Array:
    """`x_hat(z_t)` at time `t`, shape of the latents; other arguments as in `one`."""
    x = drawn(model, params, model.coded(params, x), noise.latent)[0].mean
    schedule, cond, _ = model.condition(params, x, cond, noise.latent)
    gamma = model.schedule.gamma(schedule, jnp.asarray(t))
    z = diffuse(x + model.shift(params, x, gamma, cond), gamma, noise.eps)
    return model.denoiser(params)(z, gamma, cond).x


def _mean_square(values: Array) -> Array:
    return total(jnp.square(values)) / math.prod(values.shape[1:])


def _noise(model: Model, keys: Array, i: Array | int, x: Array) -> Noise:
    """The noise of step `i`, from the images' keys; the latent is the same for all steps."""
    shape = (len(x), *model.latent_shape(x.shape[1:]))
    eps, eps_0 = (rng.normal(rng.stream(keys, k, i), shape, x.dtype) for k in ("eps", "eps_0"))
    return Noise(jnp.zeros(len(keys)), eps, eps_0, latent=rng.stream(keys, "latent"))


@kept
def one_batch(model: Model, steps: int) -> OneBatch:
    """The function that `measure` maps over batches: `(start, kl, reconstruction, error)`."""

    def run(params: Params, rows: dict[str, Array], keys: Array) -> tuple:
        x, cond = model.examples(rows)

        def at(_: None, i: Array) -> tuple[None, tuple[Array, Array]]:
            return None, one(model, params, x, cond, _noise(model, keys, i, x), i, steps)

        _, (kl, error) = jax.lax.scan(at, None, jnp.arange(1, steps + 1))
        noise = _noise(model, keys, 0, x)
        guessed = guess(model, params, x, cond, noise, 0.0)
        first = _mean_square(_to_pixels(model, params, guessed) - x)
        coded, correction = drawn(model, params, model.coded(params, x), noise.latent)
        _, cond, latent_kl = model.condition(params, coded.mean, cond, noise.latent)
        start = prior(model, params, coded.mean, cond) + latent_kl + correction
        rest = reconstruction(model, params, coded, noise.eps_0, cond)
        return start, kl.T, rest, jnp.concatenate([first[:, None], error.T], axis=1)

    return run


def measure(model: Model, params: Params, split: Split, how: Pass, *, steps: int) -> RateDistortion:
    """Measures rates and errors of every image of `split`, with one noise draw per step.

    Args:
        params: weights, replicated over the mesh.
        steps: number of steps, T.

    Returns:
        The records of all images, in order.
    """
    need_likelihood(model, "a rate of bits")
    arrays = how.over(one_batch(model, steps), params, split, "rate-distortion")
    return RateDistortion(*arrays, dims=math.prod(split.shape))


def gammas(model: Model, params: Params, steps: int) -> np.ndarray:
    """The schedule at `i / T`, `[T + 1]`: the representative curve if the schedule has a latent."""
    schedule, t = local(params["schedule"]), jnp.arange(steps + 1) / steps
    return np.asarray(jax.device_get(model.schedule.gamma(schedule, t)), np.float64)


def summary(records: RateDistortion, gamma: np.ndarray, levels: int) -> dict[str, Any]:
    """The rate-distortion curve, as means over images.

    Args:
        records: from `measure`.
        gamma: from `gammas`.
        levels: grey levels of the data: errors are given in levels, PSNR with a peak of levels - 1.

    Returns:
        JSON-able: `total` (the bound), and `curve` with lists over i from 0 (everything has been
        sent except the reconstruction term) to T (only the prior term has been sent): `gamma`,
        `rate_bits_per_dim`, `rate_standard_error`, `remaining_bits_per_dim`, `mse_levels`,
        `mse_standard_error`, and `psnr_db` of the mean squared error (at least 1e-10).
    """
    rate = records.rate()
    left = records.total()[:, None] - rate
    square = records.error * (0.5 * levels) ** 2
    mse, n = square.mean(0), len(rate)
    psnr = 10.0 * np.log10((levels - 1) ** 2 / np.maximum(mse, _EXACT))
    return {
        "total": mean_se(records.total()),
        "images": n,
        "curve": {
            "gamma": gamma.tolist(),
            "rate_bits_per_dim": rate.mean(0).tolist(),
            "rate_standard_error": _se(rate),
            "remaining_bits_per_dim": left.mean(0).tolist(),
            "mse_levels": mse.tolist(),
            "mse_standard_error": _se(square),
            "psnr_db": psnr.tolist(),
        },
    }


def _se(values: np.ndarray) -> list[float] | None:
    """Standard errors over images; None for a single image."""
    n = len(values)
    return (values.std(0, ddof=1) / math.sqrt(n)).tolist() if n > 1 else None


def stops(rate: np.ndarray, total: float, fractions: tuple[float, ...]) -> list[int]:
    """The steps whose rates are nearest to the given fractions of the total, least rate first.

    Args:
        rate: mean rates, `[T + 1]`, falling.
        total: the bound.
        fractions: fractions of the total.

    Returns:
        Indices into `rate`, without duplicates.
    """
    nearest = {int(np.abs(rate - f * total).argmin()) for f in fractions}
    return sorted(nearest, reverse=True)


def pictures(
    model: Model, params: Params, x: Array, cond: Cond, key: Array, at: list[int], steps: int
) -> np.ndarray:
    """The decoder's guesses at a few steps, followed by the originals.

    Args:
        params: weights of the model.
        x: data in model space, `[B, ...]`.
        key: PRNG key for the noise: the key of `measure` gives the same latents.
        at: numbers of the steps to show.
        steps: number of steps, T.

    Returns:
        Images as stored, `[B * (len(at) + 1), ...]`, those of one example next to each other.
    """

    @jax.jit
    def run(p: Params, i: Array) -> Array:
        noise = _noise(model, rng.per_example(key, len(x)), i, x)
        return model.decode(p, guess(model, p, x, cond, noise, i / steps))

    params = jax.device_get(params)  # only a few images: every process computes all of them
    columns = [np.asarray(jax.device_get(run(params, jnp.asarray(i)))) for i in at]
    columns.append(np.asarray(jax.device_get(model.decoder.decode(x))))
    return np.stack(columns, axis=1).reshape(-1, *x.shape[1:])
