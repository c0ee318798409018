"""The continuous-time bound (Kingma et al. 2021, equation 17): T -> infinity.

`L = 1/2 E_t [ gamma'(t) |eps - eps_hat|^2 ]`; its value does not depend on the schedule's shape.
"""

import jax.numpy as jnp

from diffusion_jax.model import Model
from diffusion_jax.objectives.base import Objective, prior, reconstruction, total
from diffusion_jax.schedules.base import gamma_and_slope
from diffusion_jax.types import Array, Cond, Noise, Params, Terms, diffuse


def _bound(model: Model, params: Params, x: Array, cond: Cond, noise: Noise) -> Terms:
    gamma, slope = gamma_and_slope(model.schedule, params["schedule"], noise.t)
    z = diffuse(x, gamma, noise.eps)
    pred = model.denoiser(params, noise.dropout)(z, gamma, cond)
    diffusion = 0.5 * slope * total(jnp.square(noise.eps - pred.eps))
    return Terms(
        prior=prior(model, params, x),
        diffusion=diffusion,
        reconstruction=reconstruction(model, params, x, noise.eps_0),
    )


def make() -> Objective:
    """The continuous-time bound."""
    return _bound
