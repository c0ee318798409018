"""The noise levels that a sampler visits, without a model, for your own denoiser."""

from collections.abc import Callable

import numpy as np

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError


def gammas(
    steps: int,
    grid: str = "log_snr()",
    *,
    gamma_max: float = 10.0,
    gamma_min: float = -10.0,
    gamma_of_t: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Levels of `gamma = -log SNR` from noise to data, for `integrate`.

    Args:
        steps: number of steps.
        grid: plug-in string such as `"karras()"`.
        gamma_max: the first level, almost pure noise.
        gamma_min: the last level, almost without noise. An EDM noise level sigma corresponds to
            `gamma = 2 log(sigma)`.
        gamma_of_t: your schedule, for grids that are uniform in time: increasing from `gamma_min`
            at time 0 to `gamma_max` at time 1.

    Returns:
        float64 `[steps + 1]`.

    Raises:
        ConfigError: the levels do not decrease, there is no step, or the grid needs `gamma_of_t`.
    """
    if steps < 1:
        raise ConfigError(f"steps={steps} must be at least 1")
    if not -np.inf < gamma_min < gamma_max < np.inf:
        raise ConfigError(
            f"gamma_max={gamma_max} must be above gamma_min={gamma_min}, and both finite"
        )

    def needed(t: np.ndarray) -> np.ndarray:
        raise ConfigError(f"grid {grid} is defined in time: give gamma_of_t, your schedule")

    return registry.build("grids", grid)(gamma_min, gamma_max, steps, gamma_of_t or needed)
