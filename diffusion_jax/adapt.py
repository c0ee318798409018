"""Other people's models: a denoiser in its own parameterisation and clock becomes ours.

    adapted = adapt.edm(lambda x, sigma: net(x, sigma))
    x = dj.integrate(adapted, dj.build("samplers", "unipc()"), gammas, z, key)
    model = adapted.model(levels=256)

Samplers and guidance take `adapted` itself; bounds, the ODE's likelihood and rate-distortion take
`adapted.model(...)`. Data are in the units the function was trained on: [-1, 1] for our decoders.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.process.parameterization import from_pred
from diffusion_jax.process.schedules.base import least_noise
from diffusion_jax.types import Array, Cond, Pred, alpha, expand, sigma

_SLACK = 1e-3  # of gamma: ends are given in float32

# (x, clock [B]) -> prediction, shape of x; with a third argument, the condition, if said so.
Theirs = Callable[..., Array]


@dataclass(frozen=True)
class Adapted:
    """A denoiser `(z, gamma, cond) -> Pred` with the range of gamma it was trained on.

    Outside of the range it raises `ConfigError`, or gives NaN where gamma is traced.

    Attributes:
        predict: `(z, gamma, cond) -> Pred`, gamma of the shape of `z`'s batch axis.
        gamma_min: the least noise it knows.
        gamma_max: the most.
    """

    predict: Callable[[Array, Array, Cond], Pred]
    gamma_min: float
    gamma_max: float

    def __call__(self, z: Array, gamma: Array | float, cond: Cond | None = None) -> Pred:
        """The prediction at latents `z` `[B, ...]` and `gamma`, scalar or `[B]`."""
        with contextlib.suppress(jax.errors.TracerArrayConversionError):
            self.check(gamma)
        gamma = jnp.broadcast_to(jnp.asarray(gamma, z.dtype), z.shape[:1])
        lo, hi = self.gamma_min - _SLACK, self.gamma_max + _SLACK
        known = expand((gamma >= lo) & (gamma <= hi), z)
        pred = self.predict(z, gamma, cond or {})
        return Pred(*(jnp.where(known, a, jnp.nan) for a in pred))

    def check(self, gammas: Any) -> None:
        """Raises `ConfigError` if any of `gammas` is outside of the range."""
        values = np.asarray(gammas, np.float64)
        lo, hi = float(values.min()), float(values.max())
        if lo < self.gamma_min - _SLACK or hi > self.gamma_max + _SLACK:
            raise ConfigError(
                f"this model knows gamma from {self.gamma_min:.2f} to {self.gamma_max:.2f}, not "
                f"{lo:.2f} to {hi:.2f}; choose gammas, or gamma_min and gamma_max, within"
            )

    def model(
        self,
        levels: int = 256,
        decoder: str = "categorical()",
        gamma_min: float | None = None,
        gamma_max: float | None = None,
        num_classes: int = 0,
    ) -> Model:
        """A model for bounds and likelihoods, whose parameters are `model.init(key, shape)`.

        Args:
            levels: grey levels of the data.
            decoder: of the folder `decoders/`.
            gamma_min: least noise of the bound; by default what suits the levels, if it is known.
            gamma_max: most noise; by default the most there is.
            num_classes: classes in `cond["label"]`; this number means "no label".

        Raises:
            ConfigError: these ends are outside of the model's range.
        """
        lo = max(least_noise(levels), self.gamma_min) if gamma_min is None else gamma_min
        hi = self.gamma_max if gamma_max is None else gamma_max
        self.check((lo, hi))
        ends = {"gamma_min": lo, "gamma_max": hi, "levels": levels}
        return Model(
            network=_Network(self),
            schedule=registry.build("schedules", "linear()", **ends),
            decoder=registry.build("decoders", decoder, **ends),
            prediction="v",
            num_classes=num_classes,
        )


@dataclass(frozen=True)
class _Network:
    """The adapted denoiser as a network without parameters, in the form that rounds least."""

    adapted: Adapted

    def init(self, key: Array, z: Array, gamma: Array, cond: Cond) -> dict:
        return {"params": {}}

    def apply(
        self, variables: Any, z: Array, gamma: Array, cond: Cond, keys: Array | None = None
    ) -> Array:
        return from_pred("v", self.adapted(z, gamma, cond), gamma)


def _call(f: Theirs, conditional: bool) -> Callable[[Array, Array, Cond], Array]:
    return f if conditional else lambda x, clock, cond: f(x, clock)


def _of_eps(eps: Array, z: Array, g: Array) -> Pred:
    return Pred(x=(z - sigma(g) * eps) / alpha(g), eps=eps)


def edm(
    f: Theirs, sigma_min: float = 0.002, sigma_max: float = 80.0, conditional: bool = False
) -> Adapted:
    """EDM's denoiser (Karras et al. 2022): `f(x + sigma n, sigma)` is the data.

    Args:
        f: `(x [B, ...], sigma [B]) -> x_hat`, preconditioning included.
        sigma_min: least noise level it was trained on.
        sigma_max: most.
        conditional: `f` takes `cond` as a third argument.
    """
    call = _call(f, conditional)

    def predict(z: Array, gamma: Array, cond: Cond) -> Pred:
        g = expand(gamma, z)
        x = call(z / alpha(g), jnp.exp(0.5 * gamma), cond)
        return Pred(x=x, eps=(z - alpha(g) * x) / sigma(g))

    return Adapted(predict, 2 * math.log(sigma_min), 2 * math.log(sigma_max))


@dataclass(frozen=True)
class _Path:
    """A path `x_t = A x + S eps` with `t` from data (0) to noise (1): its time, and its velocity.

    Attributes:
        time: `gamma -> t`.
        gamma: `t -> gamma`.
        scale: `gamma -> x_t / z`.
        read: `(u, x_t, t) -> (x, eps)`, for u the derivative of `x_t` by t.
    """

    time: Callable[[Array], Array]
    gamma: Callable[[float], float]
    scale: Callable[[Array], Array]
    read: Callable[[Array, Array, Array], tuple[Array, Array]]


def _read_cosine(u: Array, x_t: Array, t: Array) -> tuple[Array, Array]:
    angle, v = 0.5 * math.pi * t, u / (0.5 * math.pi)
    c, s = jnp.cos(angle), jnp.sin(angle)
    return c * x_t - s * v, s * x_t + c * v


_PATHS = {
    "rectified": _Path(
        time=lambda gamma: jax.nn.sigmoid(0.5 * gamma),
        gamma=lambda t: 2 * math.log(t / (1 - t)),
        scale=lambda gamma: 1 / (alpha(gamma) + sigma(gamma)),
        read=lambda u, x_t, t: (x_t - t * u, x_t + (1 - t) * u),
    ),
    "cosine": _Path(
        time=lambda gamma: jnp.arctan(jnp.exp(0.5 * gamma)) * (2 / math.pi),
        gamma=lambda t: 2 * math.log(math.tan(0.5 * math.pi * t)),
        scale=jnp.ones_like,
        read=_read_cosine,
    ),
}


def velocity(
    f: Theirs,
    path: str = "rectified",
    t_min: float = 1e-3,
    t_max: float = 1 - 1e-3,
    noise_first: bool = False,
    conditional: bool = False,
) -> Adapted:
    """A flow: `f(x_t, t)` is the derivative of `x_t` by t along a path between data and noise.

    Args:
        f: `(x_t [B, ...], t [B]) -> velocity`.
        path: `"rectified"`, `x_t = (1 - t) x + t eps`, or `"cosine"`, `cos(pi t / 2) x +
            sin(pi t / 2) eps`.
        t_min: least time it is good for, counted from the data.
        t_max: most.
        noise_first: its time is 0 at noise and 1 at data (Lipman et al. 2023).
        conditional: `f` takes `cond` as a third argument.

    Raises:
        ConfigError: there is no such path.
    """
    if path not in _PATHS:
        raise ConfigError(f"adapt.velocity: path={path!r}; allowed are {', '.join(_PATHS)}")
    p, call = _PATHS[path], _call(f, conditional)

    def predict(z: Array, gamma: Array, cond: Cond) -> Pred:
        t, x_t = p.time(gamma), z * p.scale(expand(gamma, z))
        u = -call(x_t, 1 - t, cond) if noise_first else call(x_t, t, cond)
        return Pred(*p.read(u, x_t, expand(t, z)))

    return Adapted(predict, p.gamma(t_min), p.gamma(t_max))


def eps(
    f: Theirs, alphas_cumprod: Any, integer: bool = False, conditional: bool = False
) -> Adapted:
    """A model of discrete time that predicts the noise (Ho et al. 2020).

    Args:
        f: `(z [B, ...], step [B]) -> eps`, steps from 0; fractions of a step lie between two.
        alphas_cumprod: `alpha^2` at every step, decreasing, `[T]`.
        integer: `f` takes whole steps only, int32: it is asked at the nearest.
        conditional: `f` takes `cond` as a third argument.

    Raises:
        ConfigError: `alphas_cumprod` does not decrease within (0, 1).
    """
    a2, call = np.asarray(alphas_cumprod, np.float64), _call(f, conditional)
    if a2.ndim != 1 or len(a2) < 2 or np.any(np.diff(a2) >= 0) or a2[-1] <= 0 or a2[0] >= 1:
        raise ConfigError(
            "adapt.eps: alphas_cumprod must decrease from below 1 to above 0, one value for each "
            "step; betas are turned into it by cumprod(1 - betas)"
        )
    gammas = np.log1p(-a2) - np.log(a2)

    def predict(z: Array, gamma: Array, cond: Cond) -> Pred:
        step = jnp.interp(gamma, jnp.asarray(gammas, gamma.dtype), jnp.arange(len(gammas)))
        step = jnp.round(step).astype(jnp.int32) if integer else step
        return _of_eps(call(z, step, cond), z, expand(gamma, z))

    return Adapted(predict, float(gammas[0]), float(gammas[-1]))


def score(
    f: Theirs,
    sde: str = "vp",
    low: float | None = None,
    high: float | None = None,
    t_min: float = 1e-5,
    conditional: bool = False,
) -> Adapted:
    """A score model of an SDE (Song et al. 2021): `f(x_t, t)` is the gradient of log p.

    Args:
        f: `(x_t [B, ...], t [B]) -> score`, t in [0, 1].
        sde: `"ve"`, `"vp"` or `"subvp"`.
        low: beta at time 0 (0.1), or the least sigma of `"ve"` (0.01).
        high: beta at time 1 (20), or the largest sigma of `"ve"` (50).
        t_min: least time it is good for.
        conditional: `f` takes `cond` as a third argument.

    Raises:
        ConfigError: there is no such SDE.
    """
    if sde not in _SDES:
        raise ConfigError(f"adapt.score: sde={sde!r}; allowed are {', '.join(_SDES)}")
    kind, call = _SDES[sde], _call(f, conditional)
    lo = kind.low if low is None else low
    hi = kind.high if high is None else high

    def predict(z: Array, gamma: Array, cond: Cond) -> Pred:
        ratio = jnp.exp(0.5 * gamma)  # of noise to signal
        t, signal = kind.time(ratio, lo, hi), expand(kind.signal(ratio), z)
        g = expand(gamma, z)
        # x_t = signal (x + ratio eps), and z = alpha (x + ratio eps).
        found = call(z * signal / alpha(g), t, cond)
        return _of_eps(-signal * expand(ratio, z) * found, z, g)

    ends = (2 * math.log(kind.ratio(t, lo, hi)) for t in (t_min, 1.0))
    return Adapted(predict, *ends)


@dataclass(frozen=True)
class _SDE:
    """An SDE with `x_t = signal (x + ratio eps)`.

    Attributes:
        low: default of its first parameter.
        high: default of its second.
        time: `(ratio, low, high) -> t`.
        ratio: its inverse, `(t, low, high)`.
        signal: `ratio -> signal`.
    """

    low: float
    high: float
    time: Callable[[Array, float, float], Array]
    ratio: Callable[[float, float, float], float]
    signal: Callable[[Array], Array]


def _time_of(area: Array, low: float, high: float) -> Array:
    """The time at which the area below `beta(t) = low + (high - low) t` is `area`."""
    return 2 * area / (low + jnp.sqrt(low**2 + 2 * (high - low) * area))


def _area(t: float, low: float, high: float) -> float:
    return low * t + 0.5 * (high - low) * t * t


# signal = exp(-area / 2); noise is sqrt(1 - signal^2) in "vp" and 1 - signal^2 in "subvp".
_SDES = {
    "ve": _SDE(
        0.01, 50.0,
        time=lambda ratio, low, high: jnp.log(ratio / low) / math.log(high / low),
        ratio=lambda t, low, high: low * (high / low) ** t,
        signal=jnp.ones_like,
    ),
    "vp": _SDE(
        0.1, 20.0,
        time=lambda ratio, low, high: _time_of(jnp.log1p(ratio**2), low, high),
        ratio=lambda t, low, high: math.sqrt(math.expm1(_area(t, low, high))),
        signal=lambda ratio: jax.lax.rsqrt(1 + ratio**2),
    ),
    "subvp": _SDE(
        0.1, 20.0,
        time=lambda ratio, low, high: _time_of(2 * jnp.arcsinh(0.5 * ratio), low, high),
        ratio=lambda t, low, high: 2 * math.sinh(0.5 * _area(t, low, high)),
        signal=lambda ratio: jnp.exp(-jnp.arcsinh(0.5 * ratio)),
    ),
}  # fmt: skip
