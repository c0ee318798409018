"""Without an accelerator every processor core is a device, and a batch is shared out evenly."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from conftest import REPO

from diffusion_jax import registry
from diffusion_jax.data.datasets import _pictures
from diffusion_jax.runtime import cores, cpu_devices
from diffusion_jax.runtime.sharding import batched, make_mesh, put, replicated

CODE = """
import os, sys
import jax
{before}
from diffusion_jax.runtime import cpu_devices
cpu_devices.share(12)
print(jax.device_count(), os.environ.get("XLA_FLAGS", ""))
"""
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds="


def share(before="", **env):
    """Devices there are after `share` in a new process, and XLA's flags."""
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)], capture_output=True, text=True,
        cwd=REPO, env={**kept, "JAX_PLATFORMS": "cpu", **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    devices, _, flags = done.stdout.strip().partition(" ")
    return int(devices), flags


@pytest.mark.parametrize(
    ("most", "batch", "accumulate", "mesh", "devices"),
    [
        (2, 64, 1, "data=-1", 2),
        (8, 12, 1, "data=-1", 6),
        (8, 12, 3, "data=-1", 4),
        (8, 7, 1, "data=-1", 7),
        (4, 7, 1, "data=-1", 1),
        (8, 120, 1, "data=-1,fsdp=4", 8),
        (8, 12, 1, "data=-1,fsdp=4", 4),
        (8, 64, 1, "data=1", 1),
        (8, 64, 1, "data=2,fsdp=2", 4),
        (8, 64, 0, "data=-1", 1),  # refused later, with a line that says why
        (8, 64, 1, "rows=3", 1),
    ],
)
def test_as_many_devices_as_share_a_batch_evenly(most, batch, accumulate, mesh, devices):
    assert cpu_devices.fitting(most, batch, accumulate, mesh) == devices


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processor affinity here")
@pytest.mark.parametrize("most", [1, 2])
def test_one_device_for_each_core_that_is_ours(most):
    mine = sorted(os.sched_getaffinity(0))[:most]
    devices, flags = share(f"os.sched_setaffinity(0, {mine})")
    assert devices == len(mine)
    assert (PATIENT in flags) == (devices > 1)


@pytest.mark.parametrize(
    ("quota", "most"), [("max 100000", 99), ("150000 100000", 2), ("5000 100000", 1), ("", 99)]
)
def test_a_container_has_the_cores_of_its_quota(tmp_path, monkeypatch, quota, most):
    monkeypatch.setattr(cores, "_GROUPS", tmp_path)
    without = cores.available()
    (tmp_path / "cpu.max").write_text(quota)
    assert cores.available() == min(without, most)


@pytest.mark.parametrize(
    ("mine", "folder", "files"),
    [
        ("0::/a/b\n", "a/b", {"cpu.max": "50000 100000"}),
        ("0::/a/b\n", "a", {"cpu.max": "100000 100000"}),  # of the group around ours
        ("4:cpu,cpuacct:/c\n3:memory:/m\n", "cpu/c",
         {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"}),
    ],
)  # fmt: skip
def test_quotas_of_groups_below_the_root_and_of_the_first_version(
    tmp_path, monkeypatch, mine, folder, files
):
    (tmp_path / "mine").write_text(mine)
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(cores, "_GROUPS", tmp_path)
    monkeypatch.setattr(cores, "_MINE", tmp_path / "mine")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert cores.available() == 16
    for name, text in files.items():
        (tmp_path / folder / name).write_text(text)
    assert cores.available() == 1
    for name in files:
        (tmp_path / folder / name).write_text("-1")
    assert cores.available() == 16


def test_decoding_threads_are_those_of_the_quota(monkeypatch):
    monkeypatch.setattr(cores, "available", lambda: 3)
    _pictures.pool.cache_clear()
    assert _pictures.pool(0)._max_workers == 3
    assert _pictures.pool(5)._max_workers == 5
    _pictures.pool.cache_clear()


def test_a_number_that_the_user_gives_stays():
    devices, flags = share(JAX_NUM_CPU_DEVICES="5")
    assert devices == 5 and PATIENT in flags
    devices, flags = share(XLA_FLAGS="--xla_force_host_platform_device_count=3")
    assert devices == 3 and PATIENT in flags
    devices, flags = share(JAX_NUM_CPU_DEVICES="2", XLA_FLAGS=f"{PATIENT}77")
    assert devices == 2 and flags.count(PATIENT) == 1 and f"{PATIENT}77" in flags


def test_a_file_of_flags_stays(tmp_path):
    path = tmp_path / "flags"
    path.write_text("--xla_force_host_platform_device_count=3\n")
    assert share(JAX_NUM_CPU_DEVICES="1", XLA_FLAGS=str(path))[1] == str(path)


def test_devices_in_use_stay():
    assert share("jax.devices()")[0] == 1


@pytest.mark.parametrize("name", ["vdm_unet(width=8, depth=6)", "unet(width=8, attention=(8,))"])
def test_devices_predict_without_a_word_to_each_other(name):
    # A value of one example that another device needs would stop all of them in every block.
    mesh = make_mesh()
    network = registry.build("backbones", name, channels=1, num_classes=3)
    z = put(jnp.zeros((16, 8, 8, 1)), batched(mesh))
    gamma, label = (put(jnp.zeros(16, t), batched(mesh)) for t in (jnp.float32, jnp.int32))
    params = jax.eval_shape(network.init, jax.random.key(0), z, gamma, {"label": label})
    params = jax.tree.map(lambda a: put(jnp.zeros(a.shape), replicated(mesh)), params)
    lowered = jax.jit(network.apply).lower(params, z, gamma, {"label": label})
    text = lowered.compile().as_text()
    assert "num_partitions=8" in text
    assert not re.search(r" (all-reduce|all-gather|all-to-all|collective-permute)\(", text)
