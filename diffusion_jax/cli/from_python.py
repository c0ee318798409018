"""Training from Python: `diffusion_jax.load_config` and `diffusion_jax.train`."""

import copy
import functools
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax import config_fields
from diffusion_jax.cli import arguments
from diffusion_jax.errors import ConfigError, Preempted
from diffusion_jax.experiment import Experiment, open_experiment, open_run
from diffusion_jax.runtime import cpu_devices


def load_config(name: str, settings: Mapping[str, Any] | None = None) -> ConfigDict:
    """Loads a configuration, as `--config=NAME` does.

    Args:
        name: a packaged configuration such as `"digits"`, with a variant `"digits_latent:prior"`,
            or the path of a configuration file.
        settings: fields to change, by their dotted names: `{"steps": 100, "eval.limit": 64}`.

    Returns:
        A new configuration; change it as you like.

    Raises:
        ConfigError: there is no such configuration or field, or a value has the wrong type.
    """
    file, _, variant = name.partition(":")
    make = runpy.run_path(str(arguments.config_path(file))).get("get_config")
    if make is None:
        raise ConfigError(f"{name} has no function get_config(), see those in configs/")
    config = make(*([variant] if variant else []))
    config_fields.check_fields(config)
    for key, value in (settings or {}).items():
        config_fields.check_field(key)
        *groups, last = key.split(".")
        group = functools.reduce(lambda c, g: c[g], groups, config)
        group[last] = config_fields.fitting(key, value)
    return config


def train(config: str | ConfigDict, workdir: str | Path) -> Experiment:
    """Trains a run, then evaluates it and draws samples, as `djax train` does.

    Called again with the same arguments it resumes, or opens the finished run. On a CPU, call it
    before JAX is used for anything else: the devices are created at that moment, one for each core.

    Args:
        config: a configuration, or its name as for `load_config`.
        workdir: folder for checkpoints, metrics, samples and reports.

    Returns:
        The run, with the weights of its last checkpoint.

    Raises:
        ConfigError: settings that do not exist or do not fit together.
        WorkdirError: the folder belongs to a run with another configuration, or one at work.
        DataError: the data cannot be read.
        RuntimeError: the run was stopped by a signal; it has saved a checkpoint.
    """
    from diffusion_jax.cli.modes import train as mode

    c = load_config(config) if isinstance(config, str) else copy.deepcopy(config)
    config_fields.check_fields(c)
    cpu_devices.share(c.batch, c.accumulate, c.mesh)
    try:
        mode.run(open_experiment(c, Path(workdir).absolute()))
    except Preempted as e:
        raise RuntimeError(f"stopped: {e}") from e
    return open_run(workdir)
