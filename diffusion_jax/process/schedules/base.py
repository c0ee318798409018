"""The contract of a noise schedule, and functions that work for every schedule.

A schedule is `init(key) -> params` and `gamma(params, t)`, increasing in t, exact at both ends.

A schedule may depend on an auxiliary latent, one vector per image. It then declares `latent`, the
vector's length, and has `posterior(params, x, keys) -> (latent [B, latent], KL [B])`; the prior is
N(0, I). With the vectors in `params[LATENT]`, `gamma` takes scalar or `[B]` times and gives one
value per pixel, `[B, *shape]`; without them it gives one representative curve. The ends are the
same for every latent and pixel. A schedule whose `gamma` is `[B]` although it has a latent declares
`per_pixel_gamma = False`. Schedules without the attribute `latent` have no latent.

A schedule whose gamma is linear in t for all parameters declares `straight = True`.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array, Params

LATENT = "given"  # key of the auxiliary latent among a schedule's parameters


def check_ends(gamma_min: float, gamma_max: float) -> None:
    """Raises ConfigError unless `gamma_min < gamma_max`."""
    if not gamma_min < gamma_max:  # also true for NaN
        raise ConfigError(
            f"gamma_min={gamma_min} must be below gamma_max={gamma_max} "
            "(gamma = -log SNR grows with noise)"
        )


@runtime_checkable
class Schedule(Protocol):
    """`gamma(t) = -log SNR(t)` for t in [0, 1], with or without trainable parameters."""

    def init(self, key: Array) -> Params:
        """Initial parameters; an empty dict for a fixed schedule."""
        ...

    def gamma(self, params: Params, t: Array) -> Array:
        """`gamma` at times `t` (any shape), strictly increasing in `t`."""
        ...


def gamma_and_slope(schedule: Schedule, params: Params, t: Array) -> tuple[Array, Array]:
    """`(gamma(t), d gamma / d t)` by forward-mode differentiation; same shapes as `t`."""
    return jax.jvp(lambda u: schedule.gamma(params, u), (t,), (jnp.ones_like(t),))


def is_straight(schedule: Schedule) -> bool:
    """Whether the schedule declares that gamma is linear in t."""
    return bool(getattr(schedule, "straight", False))


def latent_size(schedule: Schedule) -> int:
    """Length of the schedule's auxiliary latent; 0 unless it declares one."""
    return getattr(schedule, "latent", 0)


def has_per_pixel_gamma(schedule: Schedule) -> bool:
    """Whether `gamma` has one value per pixel: as declared; by default, whether it has a latent."""
    return getattr(schedule, "per_pixel_gamma", latent_size(schedule) > 0)


def latent_posterior(schedule: Schedule) -> Callable[[Params, Array, Array], tuple[Array, Array]]:
    """The `posterior` of a schedule that declares a latent."""
    return getattr(schedule, "posterior")  # noqa: B009  (declared, but not by every schedule)


def endpoints(schedule: Schedule, params: Params) -> tuple[Array, Array]:
    """`(gamma(0), gamma(1))`, scalars."""
    return schedule.gamma(params, jnp.asarray(0.0)), schedule.gamma(params, jnp.asarray(1.0))


def check_rises(schedule: Schedule, params: Params, points: int = 65) -> None:
    """Raises ConfigError unless gamma is finite and rises from t = 0 to 1.

    Checks only `points` times, and only the representative curve of a schedule with a latent.
    """
    t = jnp.linspace(0.0, 1.0, points)
    gamma = np.asarray(schedule.gamma(params, t))
    if gamma.shape != t.shape:
        raise ConfigError(
            f"schedule {type(schedule).__name__}: gamma(params, t) has shape {gamma.shape} for t "
            f"of shape {t.shape}; they must be equal"
        )
    bad = ~np.isfinite(gamma) | np.append(False, ~(np.diff(gamma) > 0.0))
    if bad.any():
        i = int(np.argmax(bad))
        raise ConfigError(
            f"schedule {type(schedule).__name__}: gamma = -log SNR must be finite and rise with t, "
            f"and gamma({float(t[i]):.3f}) is {gamma[i]:g} after {gamma[max(i - 1, 0)]:g}"
        )


def inverse(schedule: Schedule, params: Params, gamma: Array, steps: int = 60) -> Array:
    """The times in [0, 1] at which a schedule reaches `gamma` (any shape), by bisection.

    Args:
        gamma: the values to reach; values outside the schedule's range give 0 or 1.
        steps: number of halvings of [0, 1].
    """
    return bisect(lambda t: schedule.gamma(params, t), jnp.asarray(gamma), steps)


def bisect(rising: Callable[[Array], Array], value: Array, steps: int = 60) -> Array:
    """Arguments in [0, 1] at which an increasing function has given values; 0 or 1 out of range."""

    def halve(_: Array | int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        lo, hi = bounds
        mid = 0.5 * (lo + hi)
        below = rising(mid) < value
        return jnp.where(below, mid, lo), jnp.where(below, hi, mid)

    lo, hi = jnp.zeros_like(value), jnp.ones_like(value)
    lo, hi = jax.lax.fori_loop(0, steps, halve, (lo, hi))
    return 0.5 * (lo + hi)


def pinned(
    curve: Callable[[Array], Array], t: Array, lo: Array | float, hi: Array | float
) -> Array:
    """Rescales an increasing `curve` on [0, 1] so that it runs from `lo` to `hi` exactly.

    The fraction is (curve(t) - curve(0)) / (curve(1) - curve(0)): exactly 0 and 1 at the ends, in
    any precision, which no public learned schedule guarantees.
    """
    ends = curve(jnp.asarray([0.0, 1.0], dtype=jnp.result_type(t, 1.0)))
    fraction = (curve(t) - ends[0]) / (ends[1] - ends[0])
    # Rounding differs between arrays of different shape: set the ends exactly, keep the gradient.
    exact = jnp.where(t <= 0.0, 0.0, jnp.where(t >= 1.0, 1.0, fraction))
    fraction += jax.lax.stop_gradient(exact - fraction)
    # Also exact at t = 1, where lo + (hi - lo) might not round to hi.
    return lo * (1.0 - fraction) + hi * fraction
