"""The bound of a model with T steps (Kingma et al. 2021, equation 14).

`L_T = T/2 E_i [ expm1(gamma_t - gamma_s) |eps - eps_hat|^2 ]` with `t = i/T`, `s = (i-1)/T`.
"""

import functools

import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.objectives.base import Objective, prior, reconstruction, total
from diffusion_jax.types import Array, Cond, Noise, Params, Terms, diffuse


def _bound(
    model: Model, params: Params, x: Array, cond: Cond, noise: Noise, timesteps: int
) -> Terms:
    i = jnp.clip(jnp.ceil(noise.t * timesteps), 1, timesteps)
    gamma_t = model.schedule.gamma(params["schedule"], i / timesteps)
    gamma_s = model.schedule.gamma(params["schedule"], (i - 1) / timesteps)
    z = diffuse(x, gamma_t, noise.eps)
    pred = model.denoiser(params, noise.dropout)(z, gamma_t, cond)
    weight = 0.5 * timesteps * jnp.expm1(gamma_t - gamma_s)
    return Terms(
        prior=prior(model, params, x),
        diffusion=weight * total(jnp.square(noise.eps - pred.eps)),
        reconstruction=reconstruction(model, params, x, noise.eps_0),
    )


def make(timesteps: int = 1000) -> Objective:
    """The bound with `timesteps` steps; falls as they grow, towards the continuous-time bound."""
    if timesteps < 1:
        raise ConfigError(f"discrete: timesteps={timesteps} must be at least 1")
    return functools.partial(_bound, timesteps=timesteps)
