"""The bound of a model with T steps (Kingma et al. 2021, equation 14), encoder included.

    L_T = T/2 E_i [ expm1(delta) |eps - eps_hat + (alpha_t / sigma_t) (c delta sigma_t^2 x_hat
                                  + x_t - x_s) / (1 - e^-delta)|^2 ],   delta = gamma_t - gamma_s,

with `t = i/T` and `s = (i-1)/T` (or the gammas of a grid). Each summand is the divergence between
`q(z_s | z_t, x)` and the model's step, whose mean is VDM's plus `c alpha_s delta sigma_t^2 x_hat`.
Without an encoder the fraction is absent.
"""

import itertools
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.allowed import Count, Number
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import drawn, prior, reconstruction, weighted
from diffusion_jax.model import Model
from diffusion_jax.types import (
    Array,
    Cond,
    Data,
    Noise,
    Params,
    Pred,
    Terms,
    alpha,
    diffuse,
    expand,
    sigma,
)


def step(
    model: Model,
    params: Params,
    schedule: Params,
    x: Array,
    cond: Cond,
    noise: Noise,
    i: Array,
    timesteps: int,
    gammas: tuple[float, ...] = (),
) -> tuple[Array, Pred]:
    """One step of the bound: its divergence, `[B]`, nats, and the model's prediction at `z_t`.

    Args:
        schedule: the schedule's parameters, from `Model.condition`.
        x: data or latents, `[B, ...]`, before the diffusion encoder.
        cond: the condition, from `Model.condition`.
        noise: the noise; `noise.t` is ignored.
        i: number of the step, 1 to `timesteps`, scalar or `[B]`.
        timesteps: number of steps, T.
        gammas: `[T + 1]`, increasing; empty for equal steps in the schedule's time.
    """
    if gammas:
        at = jnp.asarray(i, jnp.int32)
        gamma_t, gamma_s = (jnp.asarray(gammas, x.dtype)[n] for n in (at, at - 1))
    else:
        gamma_t = model.schedule.gamma(schedule, i / timesteps)
        gamma_s = model.schedule.gamma(schedule, (i - 1) / timesteps)
    delta = gamma_t - gamma_s
    shift_t = model.shift(params, x, gamma_t, cond, noise.dropout)
    shift_s = model.shift(params, x, gamma_s, cond, noise.dropout)
    z = diffuse(x + shift_t, gamma_t, noise.eps)
    pred = model.denoiser(params, noise.dropout)(z, gamma_t, cond)
    g, d = expand(gamma_t, x), expand(delta, x)
    c = model.traits.mean_coefficient
    encoder_term = c * d * sigma(g) * alpha(g) * pred.x + jnp.exp(-0.5 * g) * (shift_t - shift_s)
    square = jnp.square(noise.eps - pred.eps - encoder_term / jnp.expm1(-d))
    return weighted(0.5 * jnp.expm1(delta), square), pred


@dataclass(frozen=True)
class Discrete:
    """The bound with `timesteps` steps; its value depends on their placement."""

    timesteps: int
    shape_invariant: bool = False
    gammas: tuple[float, ...] = ()

    def __call__(self, model: Model, params: Params, x: Data, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x`, each `[B]`, nats; step `ceil(t T)`, times T, estimates the sum."""
        n = self.timesteps
        i = jnp.clip(jnp.ceil(noise.t * n), 1, n)
        x, correction = drawn(model, params, model.coded(params, x, noise.dropout), noise.latent)
        schedule, cond, kl = model.condition(params, x.mean, cond, noise.latent)
        return Terms(
            prior=prior(model, params, x.mean, cond, noise.dropout),
            diffusion=n * step(model, params, schedule, x.mean, cond, noise, i, n, self.gammas)[0],
            reconstruction=reconstruction(model, params, x, noise.eps_0, cond, noise.dropout),
            auxiliary=kl + correction,
        )


def make(timesteps: Count = 1000, gammas: tuple[Number, ...] = ()) -> Discrete:
    """The bound with `timesteps` steps; it falls towards the continuous-time bound as T grows.

    Args:
        timesteps: number of steps, T.
        gammas: T + 1 values from data to noise, including both ends of the schedule; empty for
            equal steps in the schedule's time.

    Raises:
        ConfigError: `gammas` has another length or does not increase.
    """
    rising = all(a < b for a, b in itertools.pairwise(gammas))
    if gammas and not (rising and len(gammas) == timesteps + 1):
        raise ConfigError(
            f"discrete: gammas={gammas[:3]}.. must be {timesteps + 1} increasing numbers"
        )
    return Discrete(timesteps, gammas=tuple(map(float, gammas)))
