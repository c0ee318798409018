"""Runs of networks of equal blocks: how these are run may change, what they compute may not."""

import shutil

import numpy as np
import pytest
import tiny
from checkpoint_copies import copied, weights

from diffusion_jax.cli.modes import train
from diffusion_jax.errors import CheckpointError, WorkdirError


@pytest.fixture(scope="module")
def unrolled(tmp_path_factory):
    """A run of a network of blocks, which can be scanned."""
    network = "vdm_unet(width=16, depth=1, embed=8)"
    experiment = tiny.experiment(
        tmp_path_factory.mktemp("runs"), "unrolled", network=network, steps=4
    )
    train.run(experiment)
    return experiment


@pytest.mark.slow
def test_a_norm_of_other_groups_means_something_else_and_recomputing_does_not(unrolled, tmp_path):
    copy, same = copied(unrolled, tmp_path), "vdm_unet(embed=8, width=16, depth=1"
    with pytest.raises(CheckpointError, match=r"its weights depend .network.* -> "):
        copy(network=f"{same}, smallest_group=1)").weights()
    assert copy(network=f"{same}, remat=True)").weights()[1]["step"] == 4


@pytest.mark.slow
def test_a_run_moves_to_a_device_that_needs_scanned_blocks(unrolled, tmp_path):
    """Optimiser state and averages go on; the update is the same up to rounding."""
    copy = copied(unrolled, tmp_path)
    with pytest.raises(WorkdirError, match="network"):
        train.run(copy(network="vdm_unet(width=16, depth=1, embed=4, scan=True)", steps=4))
    network = "vdm_unet(embed=8, width=16, depth=1, scan=True, remat=True)"
    experiment = copy(network=network, steps=4)
    assert experiment.model.network.scan and experiment.model.network.remat
    shutil.rmtree(experiment.workdir / "checkpoints" / "4")
    train.run(experiment)
    for name in ("params", "0.9", "0.99"):
        for x, y in zip(weights(experiment, 4, name), weights(unrolled, 4, name), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
    assert any(
        np.any(x != y) for x, y in zip(weights(experiment, 2), weights(experiment, 4), strict=True)
    )  # it has trained
