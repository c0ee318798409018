"""Corrections for sampling from a model with an encoder: to the mean, and to upward moves."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion_jax.denoiser import then
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.samplers.base import Denoise, Sampler, noise_share
from diffusion_jax.types import Array, Pred, alpha, expand, sigma

Correct = Callable[[Denoise, Array, Array, Array], Array]


def correction(mean_coefficient: float, sampler: Sampler) -> tuple[float, float]:
    """The arguments `(mean_coefficient, noise_share)` of `corrected` that suit `sampler`.

    Args:
        mean_coefficient: the encoder's `c`.
        sampler: the sampler. If it has its own `mean_coefficient` it corrects the mean itself, and
            the result is `(0, 0)`.

    Raises:
        ConfigError: the sampler corrects the mean for another encoder, or does not declare its
            `noise_share`.
    """
    built_in = getattr(sampler, "mean_coefficient", None)
    if built_in is not None and built_in != mean_coefficient:
        raise ConfigError(
            f"sampler {type(sampler).__name__} corrects the mean by {built_in}, but this model's "
            f"encoder needs {mean_coefficient}; use sampler='ancestral()'"
        )
    if built_in is not None or mean_coefficient == 0.0:
        return 0.0, 0.0
    return mean_coefficient, noise_share(sampler)


def for_sampler(denoise: Denoise, mean_coefficient: float, sampler: Sampler) -> Denoise:
    """`denoise`, guidance included, with the `correction` that `sampler` needs."""
    return corrected(denoise, *correction(mean_coefficient, sampler))


def for_corrector(
    correct: Correct | None, mean_coefficient: float, sampler: Sampler
) -> Correct | None:
    """The corrector for a run of `integrate` whose denoiser comes from `for_sampler`.

    The term that `for_sampler` adds to the drift is not part of the score, so this removes it: the
    score is `-eps / sigma` of the model's own prediction (E[eps | z] if the encoder's data change
    by `-c sigma^2 x_t`, as assumed here).
    """
    c, share = correction(mean_coefficient, sampler)
    if correct is None or c == 0.0:
        return correct
    factor = 2.0 * c / (1.0 + share)

    def plain(pred: Pred, z: Array, gamma: Array) -> Pred:
        g = expand(gamma, z)
        a, s = alpha(g), sigma(g)
        x = pred.x / (1.0 + factor * s * s)
        return Pred(x=x, eps=pred.eps + factor * a * s * x)

    def uncorrected(denoise: Denoise, z: Array, gamma: Array, key: Array) -> Array:
        return correct(then(denoise, plain), z, gamma, key)

    return uncorrected


def corrected(
    denoise: Callable[[Array, Array], Pred], mean_coefficient: float, noise_share: float
) -> Callable[[Array, Array], Pred]:
    """The denoiser with which an ordinary sampler follows the process of an encoder.

    Along the encoded process the best prediction is `x_hat = E[x_t + r | z] / (1 + c sigma^2)`,
    with `r = -d x_t / d gamma`. Given `Pred(x=X)`, a solver that assumes constant data and draws
    n times the noise variance of ancestral sampling has drift
    `(1 + n)/2 alpha X - (alpha^2 + n)/2 z` per unit of -gamma. The process has `E[x_t]` in place of
    X, plus `alpha E[r]`, so that

        X = E[x_t | z] + 2/(1 + n) E[r | z] = (1 + 2 c sigma^2 / (1 + n)) x_hat.

    The last equality assumes the model's own `r = c sigma^2 x_t`. At n = 1 it holds without that
    (`X` is `(1 + c sigma^2) x_hat`, the published mean in the limit of small steps); at n < 1 it is
    exact for `x_t = alpha^2 x` and an approximation for a trained encoder.

    Args:
        denoise: `(z, gamma) -> Pred`, guidance included.
        mean_coefficient: the encoder's `c`.
        noise_share: `n`, 0 for the probability-flow ODE, 1 for ancestral sampling.

    Returns:
        The corrected `(z, gamma) -> Pred`; `denoise` itself if `c` is 0.
    """
    if mean_coefficient == 0.0:
        return denoise
    factor = 2.0 * mean_coefficient / (1.0 + noise_share)

    def moved(pred: Pred, z: Array, gamma: Array) -> Pred:
        g = expand(gamma, z)
        a, s = alpha(g), sigma(g)
        # eps changes too, so that alpha x + sigma eps is unchanged.
        return Pred(x=pred.x * (1.0 + factor * s * s), eps=pred.eps - factor * a * s * pred.x)

    return then(denoise, moved)


def lifting(
    denoise: Callable[[Array, Array], Pred], mean_coefficient: float
) -> Callable[[Array, Array, Array], Array] | None:
    """The term that an encoder adds to an upward move in gamma: `lift` of `sampling.integrate`.

    From s up to t the forward process is `(alpha_t / alpha_s) z_s + alpha_t (x_t - x_s)` plus
    noise, for known data x. A process in z alone has the same marginals if its drift is the mean of
    this given z (Gyongy 1986). The model assumes `d x_t / d gamma = -c sigma^2 x_t`, so that x_t is
    proportional to `alpha^(2c)`, and predicts `E[x_s | z_s]`. Hence

        x_t - x_s = ((alpha_t / alpha_s)^(2c) - 1) x_hat(z_s),

    exact to first order in the length of the move; the missing part is the variance of x_s given
    z_s, times the square of the factor.

    Args:
        denoise: `(z, gamma) -> Pred`, guidance included, without a sampler's correction.
        mean_coefficient: the encoder's `c`.

    Returns:
        `(z, gamma, up_to) -> term`, or None if `c` is 0.
    """
    if mean_coefficient == 0.0:
        return None

    def lift(z: Array, gamma: Array, up_to: Array) -> Array:
        growth = jax.nn.softplus(gamma) - jax.nn.softplus(up_to)  # 2 log(alpha_t / alpha_s)
        return alpha(up_to) * jnp.expm1(mean_coefficient * growth) * denoise(z, gamma).x

    return lift
