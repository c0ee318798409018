"""Eight fake CPU devices for every test, float64 on request, and where the reference data lie."""

import os
from pathlib import Path

import jax
import pytest

# Before the first device is used: sharding is tested on one machine.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")

REPO = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("DIFFUSION_JAX_SHARED", REPO.parent / "shared"))


@pytest.fixture
def float64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def golden():
    """The folder of reference numbers from the published implementations."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("reference numbers (shared/golden) are not here; set DIFFUSION_JAX_SHARED")
    return folder


@pytest.fixture
def prepared():
    """A tensorflow-datasets folder with real MNIST and CIFAR-10."""
    folder = SHARED / "data" / "tfds"
    if not folder.is_dir():
        pytest.skip("prepared MNIST and CIFAR-10 are not here; set DIFFUSION_JAX_SHARED")
    return folder
