"""What every report says of the model, the data and the arithmetic; how arrays are stored."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax

import diffusion_jax
from diffusion_jax import saved_config
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import count
from diffusion_jax.experiment import Experiment
from diffusion_jax.process.schedules.base import endpoints
from diffusion_jax.runtime.distributed import describe_devices
from diffusion_jax.runtime.sharding import local
from diffusion_jax.types import Params


def model_record(experiment: Experiment, params: Params) -> dict[str, Any]:
    """The model and the whole configuration."""
    gamma_0, gamma_1 = endpoints(experiment.model.schedule, local(params["schedule"]))
    config = saved_config.to_dict(experiment.config)
    return {
        "gamma_0": float(gamma_0),
        "gamma_1": float(gamma_1),
        "parameters": sum(a.size for a in jax.tree.leaves(params)),
        "conditional": experiment.model.num_classes > 0,
        "config_sha256": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "config": config,
    }


def data_record(experiment: Experiment, split: Split, limit: int) -> dict[str, Any]:
    """Which images, and a hash of them."""
    return {
        "name": split.name,
        "images": count(split, limit),
        "of": len(split),
        "shape": list(split.shape),
        "levels": split.levels,
        "sha256": split.fingerprint(),
        "augmentation_in_training": experiment.config.augment,
    }


def numerics_record(experiment: Experiment) -> dict[str, Any]:
    """Types, devices and versions."""
    return {
        "dtype": experiment.config.dtype,
        "matmul_precision": experiment.config.eval.matmul_precision or "device default",
        "devices": describe_devices(),
        "jax": jax.__version__,
        "diffusion_jax": diffusion_jax.__version__,
    }


def report_path(experiment: Experiment, folder: str, step: int, name: str = "") -> Path:
    """`folder/<step>.json`, with the split if it is not test, and then `name`."""
    split = experiment.config.eval.split
    parts = (str(step), "" if split == "test" else split, name)
    return experiment.workdir / folder / ("_".join(p for p in parts if p) + ".json")
