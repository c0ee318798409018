"""The sampling loop: one `lax.scan` that runs any sampler along any plan with any denoiser.

Bring your own network: all it takes is a function `denoise(z, gamma) -> Pred`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.denoiser import SequentialCalls, StatefulDenoiser, as_stateful
from diffusion_jax.errors import ConfigError, short
from diffusion_jax.sampling.checks import (
    RUNS,
    check_falls,
    check_key,
    check_plan,
    check_sampler,
    check_start,
    ends_without_noise,
    matching,
)
from diffusion_jax.sampling.encoder_corrections import Correct
from diffusion_jax.sampling.samplers.base import Denoise, Sampler, noise_fraction, scales, std
from diffusion_jax.types import Array, Pred

Constrain = Callable[[Array, Array, Array], Array]
Lift = Callable[[Array, Array, Array], Array]


def _concrete(gammas: Any) -> Any:
    """The plan as float64 numpy; a traced plan is returned unchanged."""
    try:
        return np.asarray(gammas, dtype=np.float64)
    except jax.errors.TracerArrayConversionError:
        return gammas
    except (TypeError, ValueError) as e:
        raise ConfigError(f"gammas must be numbers, noise first: {short(e)}") from e


def integrate(
    denoise: Denoise,
    sampler: Sampler,
    gammas: Array | np.ndarray,
    z: Array,
    key: Array,
    constrain: Constrain | None = None,
    correct: Correct | None = None,
    lift: Lift | None = None,
) -> Array:
    """Runs `sampler` along `gammas`, starting from `z` at `gammas[0]`.

    Upward moves in the plan (churn, restarts, RePaint) are draws from the forward process,
    `z_t = (alpha_t / alpha_s) z_s + sigma_t sqrt(c) n`, exact unless an encoder changes the data
    with gamma. They reset the sampler's memory and the denoiser's state.

    Args:
        denoise: `(z, gamma) -> Pred`, with its conditioning and guidance already inside; it may be
            a `StatefulDenoiser`.
        sampler: the numerical method, from `diffusion_jax.sampling.samplers`.
        gammas: the plan, `[n + 1]`, noise first; coefficients are computed in float64 unless it is
            traced. Or `[n + 1, B]` or `[n + 1, B, ...]`, descending: one plan per example or per
            pixel. The last gamma may be -inf (no noise): the last step then returns the prediction
            of the data.
        z: latent at `gammas[0]`, `[B, ...]`, float32 or float64.
        key: PRNG key for the noise of stochastic methods, or one key per example, `[B]`, so that
            each result is independent of the batch. Hooks receive the same kind of key.
        constrain: `(z, gamma, key) -> z`, applied after every step (inpainting, blending).
        correct: `(denoise, z, gamma, key) -> z`, applied before every step (Langevin). For data
            that change with gamma, wrap it in `sampling.encoder_corrections.for_corrector`.
        lift: `(z, gamma, up_to) -> term` to add on an upward move, for data that change with gamma
            (`sampling.encoder_corrections.lifting`).

    Returns:
        The latent at `gammas[-1]`, shape and type of `z`.

    Raises:
        ConfigError: `gammas` has fewer than two values or the wrong shape, only rises, or is not
            finite; `z` is not float32 or float64; or the denoiser's output does not have the shape
            of `z`. For a traced plan only the shape is checked.
    """
    check_falls(_concrete(gammas))
    return run(denoise, sampler, gammas, z, key, constrain, correct, lift).end


def path(
    denoise: Denoise,
    sampler: Sampler,
    gammas: Array | np.ndarray,
    z: Array,
    key: Array,
    constrain: Constrain | None = None,
    correct: Correct | None = None,
    lift: Lift | None = None,
) -> Array:
    """Like `integrate`, but returns the latents at all `gammas`, `[n + 1, B, ...]`."""
    check_falls(_concrete(gammas))
    latents = run(denoise, sampler, gammas, z, key, constrain, correct, lift, keep=True).latents
    assert latents is not None
    return latents


def _stateless(denoise: StatefulDenoiser, state: Any, z: Array, gamma: Array) -> Pred:
    """A prediction that discards the new state, for correctors, which call it in their own loop."""
    return denoise.step(state, z, gamma)[0]


class Solution(NamedTuple):
    """What `run` returns.

    Attributes:
        end: the latent at the last gamma.
        latents: the latents at all gammas, `[n + 1, B, ...]`, if `keep`.
        denoise: the denoiser with its final state, for one more prediction.
    """

    end: Array
    latents: Array | None
    denoise: Denoise


def run(
    denoise: Denoise,
    sampler: Sampler,
    gammas: Array | np.ndarray,
    z: Array,
    key: Array,
    constrain: Constrain | None = None,
    correct: Correct | None = None,
    lift: Lift | None = None,
    keep: bool = False,
) -> Solution:
    """`integrate` and `path` in one; also returns the denoiser with its final state.

    Args:
        keep: whether to return the latents at all gammas.
    """
    check_start(z)
    check_key(key)
    check_sampler(sampler, RUNS)
    gammas, stateful = _concrete(gammas), as_stateful(matching(denoise))
    check_plan(gammas, z)
    if gammas.ndim == 2:  # one plan per example
        gammas = gammas.reshape(*gammas.shape, *[1] * (z.ndim - 1))
    keys = rng.split(key, gammas.shape[0] - 1)
    clean = ends_without_noise(gammas)
    if clean:
        if getattr(sampler, "mean_coefficient", 0.0):
            raise ConfigError(
                f"sampler {type(sampler).__name__} has no step to sigma 0 (gamma -inf): end the "
                "plan at a finite gamma"
            )
        gammas = gammas[:-1]
    # A traced plan may move up. A plan per example or pixel never does (it must descend).
    if isinstance(gammas, np.ndarray):
        climbs = bool(np.any(np.diff(gammas, axis=0) > 0))
    else:
        climbs = gammas.ndim == 1
    n = gammas.shape[0] - 1

    def down(carry: tuple, row: dict, key: Array) -> tuple:
        z, memory, state = carry
        k_step, k_correct = rng.split(key)
        calls = SequentialCalls(stateful, state)
        if correct is not None:
            z = correct(partial(_stateless, stateful, state), z, row["step"]["gamma"], k_correct)
        z, memory = sampler.step(calls, row["step"], z, memory, k_step)
        return z, memory, calls.state

    def to_data(z: Array, state: Any, key: Array) -> tuple[Array, Any]:
        """The step to sigma 0: in this limit every sampler's first-order step returns x."""
        k_move, k_constrain = rng.split(key)
        gamma, calls = jnp.asarray(gammas[-1], z.dtype), SequentialCalls(stateful, state)
        if correct is not None:
            _, k_correct = rng.split(k_move)
            z = correct(partial(_stateless, stateful, state), z, gamma, k_correct)
        z = calls(z, gamma).x
        if constrain is not None:
            z = constrain(z, jnp.full_like(gamma, -jnp.inf), k_constrain)
        return z, calls.state

    def up(carry: tuple, row: dict, key: Array) -> tuple:
        z = carry[0]
        noise = rng.normal(key, z.shape, z.dtype)
        raised = row["up_scale"] * z + row["up_noise"] * noise
        if lift is not None:
            raised += lift(z, row["step"]["gamma"], row["end"])
        return raised, sampler.init(raised), stateful.init(raised)

    def body(carry: tuple, xs: tuple) -> tuple[tuple, Array | None]:
        row, key = xs
        k_move, k_constrain = rng.split(key)
        if climbs:
            z, memory, state = jax.lax.cond(row["up"], up, down, carry, row, k_move)
        else:
            z, memory, state = down(carry, row, k_move)
        if constrain is not None:
            z = constrain(z, row["end"], k_constrain)
        return (z, memory, state), z if keep else None

    end, memory, state = z, sampler.init(z), stateful.init(z)
    after = []
    if n:
        rows = _rows(sampler, gammas, z.dtype)
        (end, _, state), kept = jax.lax.scan(body, (end, memory, state), (rows, keys[:n]))
        after.append(kept)
    if clean:
        end, state = to_data(end, state, keys[n])
        after.append(end[None])
    latents = jnp.concatenate([z[None], *after]) if keep else None
    return Solution(end, latents, partial(_stateless, stateful, state))


def _rows(sampler: Sampler, gammas: Any, dtype: Any) -> dict[str, Any]:
    """The coefficients of every step, with leading axis `[n]`."""
    a_t, _, a_s, s_s = scales(gammas)
    rows = {
        "step": sampler.rows(gammas),
        "end": gammas[1:],
        # An upward move from gammas[i] to gammas[i+1] > gammas[i].
        "up": gammas[1:] > gammas[:-1],
        "up_scale": a_s / a_t,
        "up_noise": s_s * std(noise_fraction(gammas[::-1])[::-1]),
    }
    return jax.tree.map(
        lambda a: jnp.asarray(a) if a.dtype == bool else jnp.asarray(a, dtype), rows
    )
