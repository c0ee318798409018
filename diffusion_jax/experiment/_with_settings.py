"""A run with other settings of sampling or evaluation."""

import copy
import dataclasses
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from diffusion_jax import config_fields, ranges
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import assembly

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


def with_settings(run: "Experiment", changes: dict[str, Any]) -> "Experiment":
    """A copy of the run with other settings; None keeps a setting.

    Model, data and weights do not depend on these settings, so both runs share them.
    """
    config = copy.deepcopy(run.config)
    for key, value in changes.items():
        if value is not None:
            *path, last = key.split(".")
            section = functools.reduce(lambda c, p: c[p], path, config)
            section[last] = config_fields.fitting(key, value)
    config_fields.check_specs(config)
    ranges.check(config, sections_only=True)
    shared = ("mesh", "clip", "source", "loaded", *(("model",) if assembly.diffuses(run) else ()))
    other = dataclasses.replace(run, config=config)
    vars(other).update({name: getattr(run, name) for name in shared})
    return other


def listed(name: str, values: Any, example: str) -> list[Any] | None:
    """Converts several values, such as labels, to a list; None stays None.

    Raises:
        ConfigError: a single value, or a text (which is not taken as a list of letters).
    """
    if values is None:
        return None
    single = isinstance(values, str | bytes) or not isinstance(values, Iterable)
    if single or getattr(values, "ndim", 1) != 1:
        shown = f"{values!r}".replace("\n", " ")
        raise ConfigError(f"{name}={shown} must be a list, for example {name}={example}")
    return list(values)
