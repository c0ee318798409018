"""Finished runs: what their checkpoints hold, and copies that a test may damage."""

import shutil

import jax
import numpy as np
import tiny

from diffusion_jax.experiment import Experiment
from diffusion_jax.training import restore


def weights(experiment, step, name="params"):
    folder = experiment.workdir / "checkpoints" / str(step)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.leaves(restore.read_weights(folder, experiment.shapes(), name, sharding))


def assert_identical(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def copied(run, tmp_path):
    shutil.copytree(run.workdir, tmp_path / "run")
    return lambda **changes: Experiment(
        tiny.config(run.workdir.parent, **changes), tmp_path / "run"
    )
