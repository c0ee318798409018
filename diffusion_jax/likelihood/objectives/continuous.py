"""The continuous-time bound (Kingma et al. 2021, equation 17): T -> infinity.

With an encoder (Nielsen et al. 2024, equation 18; c is its mean coefficient)

    L = 1/2 E_t [ gamma'(t) |eps - eps_hat + (alpha / sigma)(c sigma^2 x_hat + dx_t/dgamma)|^2 ].

Without one the bracket is VDM's `eps - eps_hat`. The derivative is the encoder's own, so this is a
bound however crude the mean correction `c sigma^2 x_hat` is. Its value does not depend on the
schedule's shape.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.likelihood.objectives.base import prior, reconstruction, weighted
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import gamma_and_slope
from diffusion_jax.types import Array, Cond, Noise, Params, Terms, alpha, diffuse, expand, sigma


def miss(model: Model, params: Params, x: Array, cond: Cond, noise: Noise, gamma: Array) -> Array:
    """The bracket of the module docstring, shape of `x`.

    Half its square is the loss per unit of gamma. `gamma` is `[B]`, or one value per pixel;
    `noise.t` is not used.
    """
    x_t, slope = model.encode(params, x, gamma, cond, noise.dropout)
    pred = model.denoiser(params, noise.dropout)(diffuse(x_t, gamma, noise.eps), gamma, cond)
    g = expand(gamma, x)
    c = model.traits.mean_coefficient
    moved = c * sigma(g) * alpha(g) * pred.x + jnp.exp(-0.5 * g) * slope
    return noise.eps - pred.eps + moved


@dataclass(frozen=True)
class Continuous:
    """The continuous-time bound."""

    shape_invariant: bool = True

    def __call__(self, model: Model, params: Params, x: Array, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x`, each `[B]`, nats."""
        schedule, cond, kl = model.condition(params, x, cond, noise.latent)
        gamma, slope = gamma_and_slope(model.schedule, schedule, noise.t)
        return self.at(model, params, x, cond, noise, gamma, slope)._replace(auxiliary=kl)

    def at(
        self,
        model: Model,
        params: Params,
        x: Array,
        cond: Cond,
        noise: Noise,
        gamma: Array,
        slope: Array,
    ) -> Terms:
        """The terms at a given `gamma(t)` and `gamma'(t)`; see `ShapeInvariant`."""
        square = jnp.square(miss(model, params, x, cond, noise, gamma))
        return Terms(
            prior=prior(model, params, x, cond, noise.dropout),
            diffusion=weighted(0.5 * slope, square),
            reconstruction=reconstruction(model, params, x, noise.eps_0, cond, noise.dropout),
        )


def make() -> Continuous:
    """The continuous-time bound."""
    return Continuous()
