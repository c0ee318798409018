"""Checks of a run's plan, start, sampler and denoiser, before anything is computed."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffusion_jax.denoiser import then
from diffusion_jax.errors import ConfigError
from diffusion_jax.types import Array, Pred


def check_start(z: Array) -> None:
    """Raises ConfigError unless the first latent is an array of float32 or float64."""
    if not hasattr(z, "dtype"):
        raise ConfigError(
            f"z is a {type(z).__name__}, not an array: draw it with jax.random.normal"
        )
    if z.dtype not in (jnp.float32, jnp.float64):
        raise ConfigError(
            f"z is {z.dtype}: latents must be float32 or float64 (a denoiser may compute in others)"
        )


def check_key(key: Any) -> None:
    """Raises ConfigError unless `key` is a PRNG key or an array of keys."""
    if not hasattr(key, "dtype"):
        seed = key if isinstance(key, int) else 0
        raise ConfigError(f"key={key!r} is not a PRNG key: use jax.random.key({seed})")


RUNS = ("rows", "init", "step")  # the attributes of a sampler that the loop uses


def check_sampler(sampler: Any, needed: tuple[str, ...] = ("nfe_per_step", *RUNS)) -> None:
    """Raises ConfigError unless the sampler has all the `needed` attributes."""
    missing = [n for n in needed if not hasattr(sampler, n)]
    if missing:
        raise ConfigError(
            f"sampler {type(sampler).__name__} has no {', '.join(missing)}: build one with "
            "dj.build('samplers', 'ddim()'), or pass an object with nfe_per_step, rows(gammas), "
            "init(z) and step(denoise, row, z, memory, key)"
        )


def check_plan(gammas: Any, z: Array) -> None:
    """Checks the shape of a plan and, unless it is traced, its values.

    Args:
        gammas: `[n + 1, ...]`, noise first.
        z: the first latent, `[B, ...]`.

    Raises:
        ConfigError: the shape does not fit `z`; a value is not finite, other than -inf (no noise)
            at the end; or a plan per example or pixel rises.
    """
    if gammas.shape[1:] not in ((), z.shape[:1], z.shape) or gammas.shape[:1] in ((), (0,), (1,)):
        raise ConfigError(
            f"gammas must be a vector of at least two values, got shape {gammas.shape}; or one "
            "such vector for each example or pixel, [n + 1, B] or [n + 1, *z.shape]"
        )
    if not isinstance(gammas, np.ndarray):
        return
    first, last = gammas.ravel()[[0, -1]]
    inside = gammas if not ends_without_noise(gammas) else gammas[:-1]
    if not np.isfinite(inside).all():
        raise ConfigError(
            "gammas must be finite; only the last may be -inf (sigma 0). These go from "
            f"{first:g} to {last:g}"
        )
    if gammas.ndim > 1 and np.any(gammas[1:] > gammas[:-1]):
        raise ConfigError("a plan per example or pixel must descend, and this one rises")


def check_falls(gammas: Any) -> None:
    """Raises ConfigError if the plan only rises: it would do nothing but add noise."""
    if not isinstance(gammas, np.ndarray) or not gammas.ndim or np.any(gammas[1:] < gammas[:-1]):
        return
    if np.any(gammas[1:] > gammas[:-1]):
        first, last = gammas.ravel()[[0, -1]]
        raise ConfigError(
            "gammas must go down, from noise to data (gamma = -log SNR), and these rise from "
            f"{first:g} to {last:g}: reverse them, gammas[::-1]"
        )


def ends_without_noise(gammas: Any) -> bool:
    """Whether the plan is on the host and its last gamma is -inf."""
    return isinstance(gammas, np.ndarray) and bool(np.all(np.isneginf(gammas[-1])))


def matching(denoise: Callable[..., Pred]) -> Callable[..., Pred]:
    """The denoiser with its predictions converted to the type of `z`.

    The result raises ConfigError when the denoiser returns anything but a `Pred` of the shape of
    `z`.

    Raises:
        ConfigError: `denoise` is not callable.
    """

    def match(pred: Pred, z: Array, *rest: Any) -> Pred:
        if not isinstance(pred, Pred):
            what = "an array" if hasattr(pred, "shape") else type(pred).__name__
            raise ConfigError(f"the denoiser returned {what}; it must return Pred(x=..., eps=...)")
        for name, value in pred._asdict().items():
            if jnp.shape(value) != z.shape:
                raise ConfigError(
                    f"the denoiser returned {name} of shape {jnp.shape(value)} for z of {z.shape}: "
                    "they must be equal"
                )
        return Pred(*(jnp.asarray(a, z.dtype) for a in pred))

    if not callable(denoise):
        raise ConfigError(f"{denoise!r} is not a denoiser, a function (z, gamma) -> Pred(x, eps)")
    return then(denoise, match)
