"""The flags we give, before the parser of the real gcloud."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launch import tpu
from launch.slices import Slice

REAL = shutil.which("gcloud")


@pytest.fixture
def parser(tmp_path):
    """The real gcloud without an account: exit code 2 means that its parser refused a flag."""
    if REAL is None:
        pytest.skip("gcloud is not installed")
    env = dict(os.environ, CLOUDSDK_CONFIG=str(tmp_path), CLOUDSDK_CORE_CHECK_GCE_METADATA="false",
               CLOUDSDK_CORE_DISABLE_PROMPTS="1")  # fmt: skip

    def parse(argv):
        done = subprocess.run([REAL, *argv], capture_output=True, text=True, env=env)
        assert done.returncode in (1, 2), done.stderr
        assert done.returncode == 2 or "active account" in done.stderr, done.stderr
        return done.returncode == 1

    return parse


class Recorder:
    """Collects the changes a back end would make."""

    dry_run = True

    def __init__(self):
        self.seen = []

    def change(self, argv, absent_is_fine=False):
        self.seen.append(argv)

    def change_by_any(self, tracks, argv):
        self.seen.append(argv)

    def read(self, argv):
        return None


def test_the_real_parser_refuses_nonsense(parser):
    assert not parser(["compute", "tpus", "queued-resources", "create", "n", "--nonsense=1"])


@pytest.mark.slow
@pytest.mark.parametrize("capacity", ["spot", "on-demand", "reserved"])
def test_the_real_parser_knows_every_flag(parser, capacity):
    recorder = Recorder()
    backend = tpu.TpuApi(recorder, Slice("n", "p", "us-west4-a", "v5litepod-16", capacity))
    backend.create()
    commands = [*recorder.seen, *backend.delete_commands("n"), backend.ssh("n", "true")]
    if capacity == "spot":
        commands += [backend.scp("n", str(Path(__file__)), "x")]
        single = tpu.Gce(recorder, Slice("n", "p", "us-west4-a", "v6e-8"))
        single.create()
        commands += [recorder.seen[-1], *single.delete_commands("n"), single.ssh("n", "true")]
        several = tpu.Gce(Recorder(), Slice("n", "p", "us-west4-a", "v6e-16"))
        commands += several.delete_commands("n")
    for argv in commands:
        assert parser(argv), argv
