"""Runs whose loss is NaN."""

import numpy as np
import pytest
import tiny

from diffusion_jax.cli.modes import train
from diffusion_jax.errors import (
    NonFiniteError,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def test_nan_stops_with_the_step_named_and_keeps_the_last_good_checkpoint(folder):
    # Weights explode after the first checkpoint.
    experiment = tiny.experiment(
        folder, "nan", lr=1e30, warmup=3, log_every=1, save_every=1, eval_every=0
    )
    with pytest.raises(NonFiniteError, match=r"at step \d.*last good checkpoint"):
        train.run(experiment)
    steps = [p.name for p in (experiment.workdir / "checkpoints").iterdir()]
    assert steps
    folder = experiment.workdir / "checkpoints" / max(steps, key=int)
    for leaf in tiny.saved_arrays(folder):
        assert np.isfinite(leaf).all()
    assert not (experiment.workdir / "eval").exists()


def test_nan_before_the_first_checkpoint_promises_none(folder):
    experiment = tiny.experiment(folder, "early", spike=1e-6, log_every=1)
    with pytest.raises(NonFiniteError, match=r"there is no checkpoint yet: .*--workdir=NEW"):
        train.run(experiment)
