"""From images to latents along the probability-flow ODE: a deterministic sampler run upwards.

In `sampling.integrate` an upward move is a draw from the forward process; here it is a step of the
ODE (Song et al. 2020, "DDIM", section 4.3). Sampling down again with small steps recovers the data.
"""

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.checks import check_start, matching
from diffusion_jax.sampling.samplers.base import Denoise, Sampler, noise_share
from diffusion_jax.types import Array


def invert(denoise: Denoise, sampler: Sampler, gammas: np.ndarray, z: Array) -> Array:
    """Solves the probability-flow ODE from low gamma to high gamma.

    Args:
        denoise: `(z, gamma) -> Pred`, with its conditioning and guidance already inside.
        sampler: a deterministic sampler: `heun()`, `rk4()`, `ddim()`. Multistep methods fall back
            to order 1, because they use no history on upward steps.
        gammas: strictly ascending, `[n + 1]`, known on the host.
        z: latent at `gammas[0]`, `[B, ...]`.

    Returns:
        The latent at `gammas[-1]`.

    Raises:
        ConfigError: the sampler draws noise, or the gammas do not ascend.
    """
    need_deterministic(sampler)
    gammas = np.asarray(gammas, np.float64)
    rises = gammas.ndim == 1 and gammas.size > 1 and bool(np.all(np.diff(gammas) > 0.0))
    if not rises or not np.isfinite(gammas).all():
        raise ConfigError("an inversion needs strictly ascending finite gammas, at least two")
    check_start(z)
    denoise = matching(denoise)
    rows = jax.tree.map(lambda a: jnp.asarray(a, z.dtype), sampler.rows(gammas))
    key = jax.random.key(0)  # unused by a deterministic sampler

    def body(carry: tuple, row: dict) -> tuple[tuple, None]:
        z, memory = carry
        return sampler.step(denoise, row, z, memory, key), None

    return jax.lax.scan(body, (z, sampler.init(z)), rows)[0][0]


def need_deterministic(sampler: Sampler) -> None:
    """Raises ConfigError unless the sampler solves the probability-flow ODE."""
    if noise_share(sampler) != 0.0:
        raise ConfigError(
            f"sampler {type(sampler).__name__} draws noise; a path between image and latent needs "
            "a deterministic one, such as heun(), ddim() or dpmpp_2m()"
        )
