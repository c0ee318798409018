"""Eight fake CPU devices for every test, float64 on request, and where the reference data lie."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest
from clouds import cloud  # noqa: F401 -- a fixture

# Compiling is most of what the tests do; what they check does not depend on how well it is done.
QUICK = "--xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()

# Before the first device is used: sharding is tested on one machine.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")

# Many tests compile the same small programs, some of them in processes of their own.
_CACHE = tempfile.mkdtemp(prefix="compiled-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

REPO = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("DIFFUSION_JAX_SHARED", REPO.parent / "shared"))


@pytest.fixture
def float64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def fast_programs():
    """For processes that compute for long: they compile as users' do."""
    kept = os.environ.pop("XLA_FLAGS")
    yield
    os.environ["XLA_FLAGS"] = kept


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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder that only one test sees."""
    monkeypatch.setenv("DIFFUSION_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
