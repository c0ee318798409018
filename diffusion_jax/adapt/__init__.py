"""Adapters for third-party models, which convert their parameterisation and time to ours.

    adapted = adapt.edm(lambda x, sigma: net(x, sigma))
    x = dj.integrate(adapted, dj.build("samplers", "unipc()"), gammas, z, key)
    model = adapted.model(levels=256)

Samplers and guidance take `adapted` itself; bounds, the ODE likelihood and rate-distortion take
`adapted.model(...)`. Data stay in the units of the wrapped function; our decoders need [-1, 1].

Each adapter returns an `Adapted`: a callable `(z [B, ...], gamma) -> Pred`, with `x` and `eps` of
the shape of `z`, and with `gamma_min` and `gamma_max`, the range in which the model was trained.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffusion_jax.adapt._paths import PATHS
from diffusion_jax.adapt._sdes import SDES
from diffusion_jax.adapt.adapted import Adapted, Theirs, of_eps, with_cond
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array, Cond, Pred, alpha, expand, sigma

__all__ = ["Adapted", "edm", "eps", "score", "velocity"]


def edm(
    f: Theirs, sigma_min: float = 0.002, sigma_max: float = 80.0, conditional: bool = False
) -> Adapted:
    """Adapts a denoiser of EDM (Karras et al. 2022): `f(x + sigma n, sigma)` predicts x.

    Args:
        f: `(x [B, ...], sigma [B]) -> x_hat`, preconditioning included.
        sigma_min: least noise level in training; `gamma_min` is `2 log(sigma_min)`.
        sigma_max: greatest noise level in training; `gamma_max` is `2 log(sigma_max)`.
        conditional: `f` takes `cond` as a third argument.
    """
    call = with_cond(f, conditional)

    def predict(z: Array, gamma: Array, cond: Cond) -> Pred:
        g = expand(gamma, z)
        x = call(z / alpha(g), jnp.exp(0.5 * gamma), cond)
        return Pred(x=x, eps=(z - alpha(g) * x) / sigma(g))

    return Adapted(predict, 2 * math.log(sigma_min), 2 * math.log(sigma_max))


def velocity(
    f: Theirs,
    path: str = "rectified",
    t_min: float = 1e-3,
    t_max: float = 1 - 1e-3,
    noise_first: bool = False,
    conditional: bool = False,
) -> Adapted:
    """Adapts a flow: `f(x_t, t)` predicts `d x_t / d t` along a path between data and noise.

    Args:
        f: `(x_t [B, ...], t [B]) -> velocity`.
        path: `"rectified"`, `x_t = (1 - t) x + t eps`, or `"cosine"`, `x_t = cos(pi t / 2) x +
            sin(pi t / 2) eps`.
        t_min: least time at which `f` is valid, counted from the data; `gamma_min` follows from it.
        t_max: greatest time at which `f` is valid; `gamma_max` follows from it.
        noise_first: the time of `f` is 0 at noise and 1 at data (Lipman et al. 2023).
        conditional: `f` takes `cond` as a third argument.

    Raises:
        ConfigError: unknown path.
    """
    if path not in PATHS:
        raise ConfigError(
            f"adapt.velocity: path={path!r} is not valid; allowed: {', '.join(PATHS)}"
        )
    p, call = PATHS[path], with_cond(f, conditional)

    def predict(z: Array, gamma: Array, cond: Cond) -> Pred:
        t, x_t = p.time(gamma), z * p.scale(expand(gamma, z))
        u = -call(x_t, 1 - t, cond) if noise_first else call(x_t, t, cond)
        return Pred(*p.read(u, x_t, expand(t, z)))

    return Adapted(predict, p.gamma(t_min), p.gamma(t_max))


def eps(
    f: Theirs, alphas_cumprod: Any, integer: bool = False, conditional: bool = False
) -> Adapted:
    """Adapts a discrete-time model that predicts the noise (Ho et al. 2020).

    Args:
        f: `(z [B, ...], step [B]) -> eps`; steps count from 0 and may be fractional.
        alphas_cumprod: `alpha^2` at every step, decreasing, `[T]`; its ends give `gamma_min` and
            `gamma_max`.
        integer: `f` accepts integer steps only (int32); it is evaluated at the nearest one.
        conditional: `f` takes `cond` as a third argument.

    Raises:
        ConfigError: `alphas_cumprod` does not decrease within (0, 1).
    """
    a2, call = np.asarray(alphas_cumprod, np.float64), with_cond(f, conditional)
    if a2.ndim != 1 or len(a2) < 2 or np.any(np.diff(a2) >= 0) or a2[-1] <= 0 or a2[0] >= 1:
        raise ConfigError(
            "adapt.eps: alphas_cumprod must decrease from below 1 to above 0, one value for each "
            "step; from betas it is cumprod(1 - betas)"
        )
    gammas = np.log1p(-a2) - np.log(a2)

    def predict(z: Array, gamma: Array, cond: Cond) -> Pred:
        step = jnp.interp(gamma, jnp.asarray(gammas, gamma.dtype), jnp.arange(len(gammas)))
        step = jnp.round(step).astype(jnp.int32) if integer else step
        return of_eps(call(z, step, cond), z, expand(gamma, z))

    return Adapted(predict, float(gammas[0]), float(gammas[-1]))


def score(
    f: Theirs,
    sde: str = "vp",
    low: float | None = None,
    high: float | None = None,
    t_min: float = 1e-5,
    conditional: bool = False,
) -> Adapted:
    """Adapts a score model of an SDE (Song et al. 2021): `f(x_t, t)` predicts `grad log p(x_t)`.

    Args:
        f: `(x_t [B, ...], t [B]) -> score`, t in [0, 1].
        sde: `"ve"`, `"vp"` or `"subvp"`.
        low: beta at time 0 (default 0.1), or the least sigma of `"ve"` (default 0.01).
        high: beta at time 1 (default 20), or the greatest sigma of `"ve"` (default 50).
        t_min: least time at which `f` is valid; `gamma_min` follows from it, `gamma_max` from 1.
        conditional: `f` takes `cond` as a third argument.

    Raises:
        ConfigError: unknown SDE.
    """
    if sde not in SDES:
        raise ConfigError(f"adapt.score: sde={sde!r} is not valid; allowed: {', '.join(SDES)}")
    kind, call = SDES[sde], with_cond(f, conditional)
    lo = kind.low if low is None else low
    hi = kind.high if high is None else high

    def predict(z: Array, gamma: Array, cond: Cond) -> Pred:
        ratio = jnp.exp(0.5 * gamma)  # of noise to signal
        t, signal = kind.time(ratio, lo, hi), expand(kind.signal(ratio), z)
        g = expand(gamma, z)
        # x_t = signal (x + ratio eps), and z = alpha (x + ratio eps).
        gradient = call(z * signal / alpha(g), t, cond)
        return of_eps(-signal * expand(ratio, z) * gradient, z, g)

    ends = (2 * math.log(kind.ratio(t, lo, hi)) for t in (t_min, 1.0))
    return Adapted(predict, *ends)
