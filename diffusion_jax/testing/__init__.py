"""Contract tests for plug-ins, ours and yours: `check("samplers", "mine.midpoint()")`.

A violation raises AssertionError with a message of one line. The tests take seconds, and need no
data and no test framework.
"""

import importlib
from typing import Any

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.autoencoders.base import build as build_autoencoder

# For each kind, the module in this folder and the function that tests it.
CONTRACTS = {
    "schedules": "process.schedule",
    "decoders": "process.decoder",
    "encoders": "process.encoder",
    "time_sampling": "process.time_sampling",
    "backbones": "networks.network",
    "text_encoders": "text.text_encoder",
    "autoencoders": "autoencoders.autoencoder",
    "heads": "autoencoders.head",
    "guides": "networks.guide",
    "features": "networks.features",
    "judges": "judges.judge",
    "samplers": "sampling.sampler",
    "grids": "sampling.grid",
    "plans": "sampling.plan",
    "guidance": "sampling.guidance",
    "correctors": "sampling.corrector",
    "final_steps": "sampling.final_step",
    "edits": "sampling.edit",
    "objectives": "likelihood.objective",
    "weightings": "likelihood.weighting",
    "likelihood": "likelihood.likelihood",
    "data": "data.source",
    "augment": "data.augment",
    "pyramids": "data.pyramid",
    "views": "data.view",
    "tasks": "training.task",
    "distillation": "training.distillation",
    "loggers": "training.logger",
}


def check(kind: str, plugin: Any, **known: Any) -> Any:
    """Checks that a plug-in fulfils the contract of its kind.

    Args:
        kind: one of `CONTRACTS`, or the name of its setting.
        plugin: the result of `make`, or a string to build it from.
        **known: context for `make`, such as `channels` or `shape`, if `plugin` is a string.

    Returns:
        The plug-in.

    Raises:
        AssertionError: the plug-in violates the contract.
        ConfigError: there is no contract test for the kind, or the string is not valid.
    """
    kind = registry.kind_called(kind)
    if kind not in CONTRACTS:
        raise ConfigError(f"no contract tests for {kind!r}; there are: {', '.join(CONTRACTS)}")
    module, name = CONTRACTS[kind].split(".")
    contract = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    if isinstance(plugin, str):
        shape = (32, 32, 3) if kind == "features" else (8, 8, 3)
        context = {"gamma_min": -8.0, "gamma_max": 5.0, "levels": 256, "channels": 3,
                   "shape": shape, "num_classes": 4 if kind == "guides" else 0,
                   "classes": ("a", "b", "c", "d") if kind == "guides" else (),
                   **known}  # fmt: skip
        plugin = (
            build_autoencoder(plugin, **context)
            if kind == "autoencoders"
            else registry.build(kind, plugin, **context)
        )
    try:
        contract(plugin)
    except ConfigError as e:
        raise AssertionError(f"{kind}: {e}") from e
    return plugin
