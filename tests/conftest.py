"""Eight fake CPU devices for every test, float64 on request, and where the reference data lie."""

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest
from clouds import cloud  # noqa: F401 -- a fixture

# Compiling is most of what the tests do; what they check does not depend on how well it is done.
QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    # What `cpu_devices.share` adds: a compiled program is found by the flags it was made with.
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=600",
    "--xla_cpu_collective_call_terminate_timeout_seconds=36000",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK]).strip()

# JAX makes many objects and few cycles: looking for those took 7% of the time of all tests.
gc.set_threshold(50_000, 10, 20)

# Before the first device is used: sharding is tested on one machine.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")

# Many tests compile the same programs. What one has compiled is there for all others: for pytest's
# workers, which inherit the variable, and for the processes that tests start.
_OURS = "DIFFUSION_JAX_TESTS_COMPILED"
if _OURS not in os.environ:
    os.environ[_OURS] = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, os.environ[_OURS], ignore_errors=True)
for _name, _value in (
    ("jax_compilation_cache_dir", os.environ[_OURS]),
    ("jax_persistent_cache_min_compile_time_secs", 0.1),
    ("jax_persistent_cache_min_entry_size_bytes", -1),
):
    os.environ[_name.upper()] = str(_value)
    jax.config.update(_name, _value)

REPO = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("DIFFUSION_JAX_SHARED", REPO.parent / "shared"))


def pytest_collection_modifyitems(items):
    """Files of slow tests first: the quick ones come last, and the workers end together."""
    files = {}
    for item in items:
        files.setdefault(item.path, []).append(item.get_closest_marker("slow") is not None)
    items.sort(key=lambda item: -sum(files[item.path]) / len(files[item.path]))


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
