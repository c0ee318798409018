"""A run with other settings of sampling or measuring."""

import copy
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from diffusion_jax import ranges
from diffusion_jax.experiment import assembly

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


def with_settings(run: "Experiment", changes: dict[str, Any]) -> "Experiment":
    """The run with other settings (None: as they are).

    Model, data and weights depend on none of these, so both runs share them.
    """
    config = copy.deepcopy(run.config)
    for key, value in changes.items():
        if value is not None:
            *path, last = key.split(".")
            functools.reduce(lambda c, p: c[p], path, config)[last] = value
    ranges.check(config, sections_only=True)
    shared = ("mesh", "clip", "source", "loaded", *(("model",) if assembly.diffuses(run) else ()))
    other = dataclasses.replace(run, config=config)
    vars(other).update({name: getattr(run, name) for name in shared})
    return other
