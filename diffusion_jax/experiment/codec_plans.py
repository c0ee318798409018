"""The noise levels of the steps of a codec: from `config.compress.grid`, or from a header."""

from typing import Any

import numpy as np

from diffusion_jax import registry
from diffusion_jax.compression import model_functions
from diffusion_jax.errors import CodecError, ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.sampling import generate
from diffusion_jax.types import Params


def made(
    experiment: Experiment, params: Params, nets: list[model_functions.Network]
) -> list[np.ndarray]:
    """The gammas of each chain, `[T + 1]` from data to noise; empty for uniform times.

    Raises:
        ConfigError: `compress.grid` does not rise from the schedule's beginning to its end.
    """
    spec, steps = experiment.config.compress.grid, experiment.config.compress.timesteps
    if not spec:
        return []
    grid, found = registry.build("grids", spec), []
    for net, own in zip(nets, params if experiment.stages else [params], strict=True):
        gammas = np.array(generate.plan(net.model, own, grid, steps)[::-1], np.float64)
        gammas[[0, -1]] = net.gammas(1)  # exactly the same ends as without a grid
        if len(gammas) != steps + 1 or not (np.diff(gammas) > 0.0).all():
            raise ConfigError(
                f"compress.grid={spec!r} does not give compress.timesteps={steps} steps of "
                "increasing noise: use another grid, or its number of steps"
            )
        found.append(gammas)
    return found


def kept(header: dict[str, Any], chains: int, name: str) -> list[np.ndarray]:
    """The gammas that a file was written with; empty for uniform times."""
    plans = [np.array(plan, np.float64) for plan in header.get("gammas", [])]
    if len(plans) not in (0, chains):
        raise CodecError(f"{name} has gammas of {len(plans)} models, but {chains} decode it")
    return plans
