"""What a run holds its plan, its start and its denoiser against, before anything is computed."""

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
        raise ConfigError(f"z is a {type(z).__name__}, no array: draw it with jax.random.normal")
    if z.dtype not in (jnp.float32, jnp.float64):
        raise ConfigError(
            f"z is {z.dtype}: latents are float32 or float64 (a denoiser may compute in others)"
        )


def check_key(key: Any) -> None:
    """Raises ConfigError unless it is a key, or several."""
    if not hasattr(key, "dtype"):
        seed = key if isinstance(key, int) else 0
        raise ConfigError(f"key={key!r} is no PRNG key: use jax.random.key({seed})")


RUNS = ("rows", "init", "step")  # what the loop uses of a sampler


def check_sampler(sampler: Any, needed: tuple[str, ...] = ("nfe_per_step", *RUNS)) -> None:
    """Raises ConfigError unless it has what every sampler has, or what is needed of it."""
    missing = [n for n in needed if not hasattr(sampler, n)]
    if missing:
        raise ConfigError(
            f"sampler {type(sampler).__name__} has no {', '.join(missing)}: build one, "
            "dj.build('samplers', 'ddim()'), or give an object with nfe_per_step, rows(gammas), "
            "init(z) and step(denoise, row, z, memory, key)"
        )


def check_plan(gammas: Any, z: Array) -> None:
    """Refuses a plan that does not fit `z` or leads nowhere; if it is traced, by its shape alone.

    Args:
        gammas: `[n + 1, ...]`, noise first.
        z: the first latent, `[B, ...]`.

    Raises:
        ConfigError: the shape; a value is not finite, other than -inf (no noise) at the end; a plan
            for each example or pixel rises.
    """
    if gammas.shape[1:] not in ((), z.shape[:1], z.shape) or gammas.shape[:1] in ((), (0,), (1,)):
        raise ConfigError(
            f"gammas must be a vector of at least two values, got shape {gammas.shape}; or one for "
            "each example or pixel, [n + 1, B] or [n + 1, *z.shape]"
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
        raise ConfigError("a plan for each example or pixel only goes down, and this one rises")


def check_falls(gammas: Any) -> None:
    """Raises ConfigError if the plan never goes down: it would add noise and nothing else."""
    if not isinstance(gammas, np.ndarray) or not gammas.ndim or np.any(gammas[1:] < gammas[:-1]):
        return
    if np.any(gammas[1:] > gammas[:-1]):
        first, last = gammas.ravel()[[0, -1]]
        raise ConfigError(
            "gammas go down, from noise to data (gamma = -log SNR), and these rise from "
            f"{first:g} to {last:g}: turn them round, gammas[::-1]"
        )


def ends_without_noise(gammas: Any) -> bool:
    """Whether the plan is on the host and its last gamma is -inf."""
    return isinstance(gammas, np.ndarray) and bool(np.all(np.isneginf(gammas[-1])))


def matching(denoise: Callable[..., Pred]) -> Callable[..., Pred]:
    """The denoiser with its predictions in the type of `z`, whatever it computes in.

    Raises ConfigError if it is no function; calling it does if that returns no `Pred` in the shape
    of `z`.
    """

    def match(pred: Pred, z: Array, *rest: Any) -> Pred:
        if not isinstance(pred, Pred):
            what = "an array" if hasattr(pred, "shape") else type(pred).__name__
            raise ConfigError(f"the denoiser returned {what}; it returns Pred(x=..., eps=...)")
        for name, value in pred._asdict().items():
            if jnp.shape(value) != z.shape:
                raise ConfigError(
                    f"the denoiser returned {name} of shape {jnp.shape(value)} for z of {z.shape}: "
                    "they must be equal"
                )
        return Pred(*(jnp.asarray(a, z.dtype) for a in pred))

    if not callable(denoise):
        raise ConfigError(f"{denoise!r} is no denoiser, a function (z, gamma) -> Pred(x, eps)")
    return then(denoise, match)
