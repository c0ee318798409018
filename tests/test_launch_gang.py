"""Sizes of slices, what hosts say together, and the bundle they are sent."""

import configparser
import fcntl
import os
import shutil
import subprocess
from contextlib import nullcontext

import pytest
from conftest import REPO
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from launch import gang
from launch.gang import Host, verdict
from launch.gcloud import Done
from launch.slices import Slice
from launch.tpu_api import TpuApi


@pytest.mark.parametrize(
    ("kind", "chips", "hosts"),
    [("v2-8", 4, 1), ("v3-32", 16, 4), ("v4-8", 4, 1), ("v5litepod-4", 4, 1), ("v5litepod-8", 8, 1),
     ("v5litepod-16", 16, 4), ("v5p-8", 4, 1), ("v5p-16", 8, 2), ("v6e-8", 8, 1),
     ("v6e-16", 16, 4)],
)  # fmt: skip
def test_sizes(kind, chips, hosts):
    made = Slice("n", "p", "us-west4-a", kind)
    assert (made.chips, made.hosts, made.region) == (chips, hosts, "us-west4")


def say(*states):
    return [Host(f"h{i}", "u", s if isinstance(s, str) else "exited",
                 None if isinstance(s, str) else s) for i, s in enumerate(states)]  # fmt: skip


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (["running", "running"], ("running", 0)),
        ([0, 0], ("done", 0)),
        ([0, "running"], ("finishing", 0)),
        ([1, "running"], ("crashed", 1)),
        ([42, "running"], ("preempted", 42)),
        ([42, 134], ("crashed", 134)),
        ([134, 2], ("mistake", 2)),
        (["running"], ("unreachable", 255)),
        ([42], ("unreachable", 255)),
        ([9], ("crashed", 9)),
        (["absent", "running"], ("crashed", 1)),
        ([], ("unreachable", 255)),
    ],
)
def test_what_the_hosts_say_together(states, wanted):
    assert verdict(say(*states), "u", 2) == wanted


def test_another_run_on_the_host_is_not_ours():
    assert verdict(say(0, 0), "other", 2) == ("crashed", 1)


@pytest.mark.parametrize(
    ("word", "secret"),
    [("--config.network='uvit(cond_tokens=64)'", False), ("--workdir=gs://b/token=3", False),
     ("--config.tokens=8", False), ("--hf_token=x", True), ("--TOKEN=x", True),
     ("--config.x='f(token=1)'", True), ("--secret_access_key=x", True), ("--apikey=x", True),
     ("--my.password=x", True), ("--config.secret=x", True)],
)  # fmt: skip
def test_only_names_of_secrets_are_refused(word, secret):
    backend = TpuApi(None, Slice("n", "p", "z-a", "v5litepod-8"))
    with pytest.raises(gang.LaunchError, match="secret") if secret else nullcontext():
        gang.Gang(backend, "gs://b/run", (word,))


class Here:
    """A cloud of one host: this machine, with a home of its own."""

    dry_run = False

    def __init__(self, home):
        self.home = home

    def change(self, argv, absent_is_fine=False):
        return ""

    def call(self, argv, timeout=600.0):
        (command,) = [x.removeprefix("--command=") for x in argv if x.startswith("--command=")]
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True,
                              timeout=60, env={**os.environ, "HOME": str(self.home)})  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_a_busy_host_keeps_its_run_and_its_code(tmp_path, monkeypatch):
    monkeypatch.setattr(gang, "bundle", lambda: ("new", b""))
    monkeypatch.delenv("DJAX_STATE", raising=False)
    code, state = tmp_path / gang.CODE, tmp_path / ".djax"
    for name in ("old", "new"):
        (code / name / "launch").mkdir(parents=True)
        (code / name / ".whole").touch()
    shutil.copy(REPO / "launch/host.sh", code / "new/launch")
    (code / "old/launch/host.sh").write_text(f"echo $1 >> {tmp_path}/asked")
    (code / "current").symlink_to(code / "old")
    state.mkdir()
    (state / "unit").write_text("another\n")
    here = gang.Gang(TpuApi(Here(tmp_path), Slice("n", "p", "z-a", "v5litepod-8")), "gs://b/run")
    with open(state / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(gang.Busy, match="left alone"):
            here.start()
        assert (code / "current").resolve() == code / "old"
        assert not (tmp_path / "asked").exists()
        (state / "unit").write_text(f"{here.unit}\n")
        here.start()  # it runs already
    assert (code / "current").resolve() == code / "new"


def test_the_bundle_is_the_working_tree_and_the_same_each_time(tmp_path):
    import io
    import tarfile

    if not (REPO / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    first, packed = gang.bundle()
    assert gang.bundle()[0] == first
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        names = tar.getnames()
        assert tar.extractfile("launch/host.sh").read() == (REPO / "launch/host.sh").read_bytes()
        assert tar.getmember("launch/host.sh").mode & 0o100
    assert "diffusion_jax/main.py" in names and not any(n.startswith(".git/") for n in names)


def test_hosts_install_every_package_that_setup_cfg_asks_for():
    """host.sh installs the lock and nothing else."""
    pinned = {}
    for line in (REPO / "launch/requirements.lock").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            pinned[canonicalize_name(name)] = version
    setup = configparser.ConfigParser()
    setup.read(REPO / "setup.cfg")
    extras = setup["options.extras_require"]
    asked = "\n".join([setup["options"]["install_requires"], extras["tpu"], extras["gcs"]])
    wanted = [Requirement(x) for x in asked.splitlines() if x.strip() and not x.startswith("#")]
    assert len(wanted) > 20
    for one in wanted:
        version = pinned.get(canonicalize_name(one.name), "none")
        assert version != "none" and one.specifier.contains(version), (str(one), version)
