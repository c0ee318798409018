"""Whether predictions agree with each other along the reverse process (Daras et al. 2023).

The mean of the data given z is a martingale: ancestral sampling from gamma down to s leaves its
expectation unchanged. This need not hold for a network's prediction. With two independent runs from
one z, ending in z_s and z_s',

    (x_hat(z_s) - x_hat(z)) . (x_hat(z_s') - x_hat(z))

is an unbiased estimate of the squared drift, and does not need the distribution of the data.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.denoiser import with_condition
from diffusion_jax.model import Model, require
from diffusion_jax.process.schedules.base import endpoints
from diffusion_jax.runtime.sharding import local
from diffusion_jax.sampling import loop
from diffusion_jax.types import Array, Cond, Params, diffuse


@dataclass(frozen=True)
class Drift:
    """Squared drifts of the prediction, per value of the data, at some noise levels.

    Attributes:
        gamma: gamma at which the runs start, `[G]`.
        end: gamma at which they end, `[G]`.
        mean: mean over examples, `[G]`; 0 for a perfect network, and by chance negative.
        standard_error: standard error over examples, `[G]`.
    """

    gamma: np.ndarray
    end: np.ndarray
    mean: np.ndarray
    standard_error: np.ndarray


def drift(
    model: Model,
    params: Params,
    x: Array,
    cond: Cond,
    key: Array,
    points: int = 6,
    steps: int = 4,
) -> Drift:
    """Measures the drift over each of `points` equal parts of the model's range of gamma.

    Args:
        params: weights of the model.
        x: data in model space, `[B, ...]`: the same for all parts.
        cond: the condition of the data.
        key: PRNG key for the noise.
        points: number of parts.
        steps: number of ancestral sampling steps in each part.

    Raises:
        ConfigError: the model has a diffusion encoder, a gamma for each pixel, or an autoencoder.
    """
    require(
        model, "the drift of predictions", "it is for VDM", time_dependent_data=False,
        per_pixel_gamma=False, latent=0, pixels=True,
    )  # fmt: skip
    sampler = registry.build("samplers", "ancestral()")
    ends = [float(g) for g in endpoints(model.schedule, local(params["schedule"]))]
    edges = np.linspace(ends[1], ends[0], points + 1)
    pairs = np.stack([edges[:-1], edges[1:]], axis=1)

    @jax.jit
    def measure(params: Params, x: Array, cond: Cond, key: Array) -> Array:
        denoise = with_condition(model.denoiser(params), cond)

        def one(row: tuple[Array, Array]) -> Array:
            (gamma, end), key = row
            z = diffuse(x, gamma, rng.normal(rng.stream(key, "start"), x.shape, x.dtype))
            first = denoise(z, gamma).x
            plan = jnp.linspace(gamma, end, steps + 1)[:, None] * jnp.ones(len(x))
            drifts = []
            for name in ("one", "other"):
                z_s = loop.run(denoise, sampler, plan, z, rng.stream(key, name)).end
                drifts.append(denoise(z_s, end).x - first)
            return jnp.mean(drifts[0] * drifts[1], axis=tuple(range(1, x.ndim)))

        keys = rng.split(key, points)
        return jax.lax.map(one, (jnp.asarray(pairs, x.dtype), keys))

    squares = np.asarray(measure(params, x, cond, key), np.float64)
    se = squares.std(axis=1, ddof=1) / squares.shape[1] ** 0.5
    return Drift(pairs[:, 0], pairs[:, 1], squares.mean(axis=1), se)
