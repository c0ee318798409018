"""Whether predictions agree with each other along the reverse process (Daras et al. 2023).

The mean of the data given z is a martingale: on the way from gamma down to s by ancestral sampling
its expectation stays what it was. A network's need not. With two independent runs from one z,

    (x_hat(z_s) - x_hat(z)) . (x_hat(z_s') - x_hat(z))

is an unbiased estimate of the squared drift, without knowing the data's law.
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
        gamma: where the runs start, `[G]`.
        end: where they end, `[G]`.
        mean: over examples, `[G]`; 0 for a perfect network, and below it by chance.
        standard_error: over examples, `[G]`.
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
        params: the weights.
        x: data in model space, `[B, ...]`: the same for all parts.
        cond: their condition.
        key: of the noise.
        points: parts.
        steps: of ancestral sampling in each.

    Raises:
        ConfigError: the data change with time, the schedule has a gamma for each pixel, or latents
            diffuse.
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
            moved = []
            for name in ("one", "other"):
                there = loop.run(denoise, sampler, plan, z, rng.stream(key, name)).end
                moved.append(denoise(there, end).x - first)
            return jnp.mean(moved[0] * moved[1], axis=tuple(range(1, x.ndim)))

        keys = rng.split(key, points)
        return jax.lax.map(one, (jnp.asarray(pairs, x.dtype), keys))

    found = np.asarray(measure(params, x, cond, key), np.float64)
    se = found.std(axis=1, ddof=1) / found.shape[1] ** 0.5
    return Drift(pairs[:, 0], pairs[:, 1], found.mean(axis=1), se)
