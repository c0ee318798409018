"""The continuous-time bound (Kingma et al. 2021, equation 17): T -> infinity.

With a diffusion encoder (Nielsen et al. 2024, equation 18; c is its mean coefficient)

    L = 1/2 E_t [ gamma'(t) |eps - eps_hat + (alpha / sigma)(c sigma^2 x_hat + dx_t/dgamma)|^2 ].

Without one, the residual inside |.| is VDM's `eps - eps_hat`. The derivative is the encoder's exact
one, so this is a bound however crude the mean correction `c sigma^2 x_hat` is. Its value does not
depend on the schedule's shape.

For an autoencoder with latents `y ~ N(m, s^2)`, `q(z_t | x) = N(alpha m, tau^2)` with
`tau^2 = alpha^2 s^2 + sigma^2`, and the residual is `(sigma / tau) eps - eps_hat`. Since y is never
sampled, this has less variance than the equal bound with a sampled y (`form='A'`,
`objectives.base.drawn`).
"""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import drawn, prior, reconstruction, weighted
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import gamma_and_slope
from diffusion_jax.types import (
    Array,
    Cond,
    Data,
    Noise,
    Params,
    Terms,
    alpha,
    diffuse,
    expand,
    sigma,
)


def residual(
    model: Model,
    params: Params,
    x: Array,
    cond: Cond,
    noise: Noise,
    gamma: Array,
    std: Array | None = None,
) -> Array:
    """The residual in the module's docstring, shape of `x`.

    Half its square is the loss per unit of gamma.

    Args:
        x: data or, for noisy latents, their means, with standard deviation `std`.
        noise: the noise; `noise.t` is ignored.
        gamma: `[B]`, or one value per pixel.
        std: standard deviation of noisy latents, or None.
    """
    denoiser, g = model.denoiser(params, noise.dropout), expand(gamma, x)
    if std is not None:
        tau = jnp.sqrt(jnp.square(alpha(g) * std) + jnp.square(sigma(g)))
        pred = denoiser(alpha(g) * x + tau * noise.eps, gamma, cond)
        return sigma(g) / tau * noise.eps - pred.eps
    x_t, slope = model.encode(params, x, gamma, cond, noise.dropout)
    pred = denoiser(diffuse(x_t, gamma, noise.eps), gamma, cond)
    c = model.traits.mean_coefficient
    encoder_term = c * sigma(g) * alpha(g) * pred.x + jnp.exp(-0.5 * g) * slope
    return noise.eps - pred.eps + encoder_term


@dataclass(frozen=True)
class Continuous:
    """The continuous-time bound.

    Attributes:
        shape_invariant: see `Objective`.
        draws: sample noisy latents instead of averaging their noise out.
    """

    shape_invariant: bool = True
    draws: bool = False

    def __call__(self, model: Model, params: Params, x: Data, cond: Cond, noise: Noise) -> Terms:
        """The terms at data `x`, each `[B]`, nats."""
        x = model.coded(params, x, noise.dropout)
        schedule, cond, kl = model.condition(params, x.mean, cond, noise.latent)
        gamma, slope = gamma_and_slope(model.schedule, schedule, noise.t)
        terms = self.at(model, params, x, cond, noise, gamma, slope)
        return terms._replace(auxiliary=terms.auxiliary + kl)

    def at(
        self,
        model: Model,
        params: Params,
        x: Data,
        cond: Cond,
        noise: Noise,
        gamma: Array,
        slope: Array,
    ) -> Terms:
        """The terms at a given `gamma(t)` and `gamma'(t)`; see `ShapeInvariant`."""
        x, correction = model.coded(params, x, noise.dropout), 0.0
        if self.draws:
            x, correction = drawn(model, params, x, noise.latent)
        square = jnp.square(residual(model, params, x.mean, cond, noise, gamma, x.std))
        return Terms(
            prior=prior(model, params, x.mean, cond, noise.dropout, x.std),
            diffusion=weighted(0.5 * slope, square),
            reconstruction=reconstruction(model, params, x, noise.eps_0, cond, noise.dropout),
            auxiliary=correction,
        )


def make(form: str = "B") -> Continuous:
    """The continuous-time bound.

    Args:
        form: treatment of noisy latents: `"B"` averages their noise out, `"A"` samples it.

    Raises:
        ConfigError: unknown form.
    """
    if form not in ("A", "B"):
        raise ConfigError(f"continuous: form={form!r} is not valid; allowed: A, B")
    return Continuous(draws=form == "A")
