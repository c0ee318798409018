"""Work directories in a bucket: real processes against a small stand-in for Cloud Storage."""

import contextlib
import importlib.util
import io
import json
import os
import signal
import sys
import time
from pathlib import Path

import fake_gcs
import numpy as np
import pytest
import tiny
from command import config_file
from forked_program import ForkedProgram

from diffusion_jax.data.base import located
from diffusion_jax.errors import ConfigError, DataError, WorkdirError
from diffusion_jax.experiment.workdir import check_writable
from diffusion_jax.runtime import storage
from diffusion_jax.training import lock, restore
from diffusion_jax.training.append_log import Spool
from diffusion_jax.training.metrics import Writer

needs_gcs = pytest.mark.skipif(
    importlib.util.find_spec("gcsfs") is None, reason="gcsfs is not installed: .[gcs]"
)


@pytest.fixture
def bucket(monkeypatch):
    """The objects of a bucket, `name -> (generation, bytes)`, and this process's way to it."""
    with fake_gcs.Server("some-bucket") as server:
        for name in ("TENSORSTORE_GCS_HTTP_URL", "GOOGLE_AUTH_TOKEN_FOR_TESTING"):
            monkeypatch.setenv(name, server.url)  # also restores what `places` sets
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        storage._reach.cache_clear()
        yield server.buckets["some-bucket"], server
        storage._reach.cache_clear()


def test_folders_are_absolute_and_other_schemes_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.place("a/b") == tmp_path / "a" / "b"
    (tmp_path / "other" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "other" / "inside")
    assert storage.place("link/../b") == tmp_path / "other" / "b"  # as the system reads it
    for text in ("s3://b/run", "gs://", "gs:///run"):
        with pytest.raises(ConfigError, match="gs://bucket/folder"):
            storage.place(text)
    with pytest.raises(ConfigError, match=r"no home folder ~nobody-at-all here; write"):
        storage.place("~nobody-at-all/run")
    with pytest.raises(DataError, match="no home folder ~nobody-at-all"):
        located("~nobody-at-all/images", "")
    assert located("~", "") == Path.home()


def test_a_missing_package_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    storage._reach.cache_clear()
    with pytest.raises(ConfigError, match="\\[gcs\\]"):
        storage.place("gs://some-bucket/run")


@needs_gcs
def test_files_in_a_bucket(bucket):
    """What is written through `places` are those objects, and reads back."""
    objects, _ = bucket
    run = storage.place("gs://some-bucket/run")
    storage.write(run / "a" / "b.txt", b"text")
    storage.write(run / "a" / "b.txt", b"newer")
    storage.write_arrays(run / "c.npz", image=np.arange(5))
    assert objects["run/a/b.txt"][1] == b"newer"
    with np.load(io.BytesIO(objects["run/c.npz"][1])) as f:
        assert f["image"].tolist() == [0, 1, 2, 3, 4]
    assert storage.files_below(run) == ["a/b.txt", "c.npz"]
    assert (run / "a" / "b.txt").read_bytes() == b"newer" and not (run / "d").exists()
    (run / "a").rename(run / "d")
    assert set(objects) == {"run/d/b.txt", "run/c.npz"}
    check_writable(run / "eval")  # leaves nothing
    assert set(objects) == {"run/d/b.txt", "run/c.npz"}
    with pytest.raises(ConfigError, match="gs://other-bucket: there is no such bucket"):
        storage.place("gs://other-bucket/run")


@needs_gcs
def test_a_checkpoint_without_its_last_object_is_not_one(bucket):
    """In a bucket a step has its final name while it is being written."""
    run = storage.place("gs://some-bucket/run")
    for step, last in ((10, "commit_success.txt"), (20, "_METADATA")):
        storage.write(run / "checkpoints" / str(step) / "meta" / "metadata", b"{}")
        storage.write(run / "checkpoints" / str(step) / last, b"")
    assert [p.name for p in restore.locate(run)] == ["10"]


@needs_gcs
def test_lines_go_on_in_a_bucket(bucket):
    objects, _ = bucket
    run = storage.place("gs://some-bucket/run")
    for text in ("one\n", "two\n"):
        spool = Spool(run, go_on=["metrics.jsonl"])
        with (spool.folder / "metrics.jsonl").open("a") as f:
            f.write(text)
            f.flush()
            spool.send()
        spool.close()
    assert objects["run/metrics.jsonl"][1] == b"one\ntwo\n"
    assert not spool.folder.exists()


@needs_gcs
def test_the_older_of_two_writers_notices_and_stops(bucket):
    run = storage.place("gs://some-bucket/run")
    with lock.only_writer(run) as first:
        first()
        with lock.only_writer(run) as second:
            second()
            with pytest.raises(WorkdirError, match=f"taken over by process {os.getpid()}"):
                first()


@needs_gcs
def test_a_writer_that_was_taken_over_leaves_the_metrics_of_the_other_alone(bucket):
    """Neither with its next copy nor when it closes."""
    objects, _ = bucket
    run = storage.place("gs://some-bucket/run")
    with lock.only_writer(run) as first:
        older = Writer(run, first)
        older.scalars(1, {"a": 1.0})
        older.flush()
        with lock.only_writer(run) as second:
            newer = Writer(run, second)
            older.scalars(2, {"a": -1.0})
            with pytest.raises(WorkdirError, match="discards what it has not written"):
                older.flush()
            newer.scalars(2, {"a": 2.0})
            newer.close()
            older.scalars(3, {"a": -1.0})
            older.close()
    rows = [json.loads(r) for r in objects["run/metrics.jsonl"][1].splitlines()]
    assert [r["a"] for r in rows] == [1.0, 2.0]


def checkpoints(objects, ending):
    """The steps under `run/checkpoints` that have an object of this name."""
    names = [n.split("/") for n in list(objects)]
    return sorted(int(n[2]) for n in names if n[1] == "checkpoints" and n[3:] == [ending])


@pytest.fixture
def program(bucket, tmp_path):
    made = ForkedProgram(tmp_path / "log")
    yield made
    made.close()


@needs_gcs
@pytest.mark.slow
def test_a_run_in_a_bucket_is_killed_damaged_and_resumed(bucket, program, tmp_path):
    """kill -9 while saving; then a flipped byte, and a save that was not finished."""
    objects, server = bucket
    config = config_file(
        tmp_path, network="tests.my_network(width=16, depth=1, embed=8)", steps=80, save_every=20,
        eval_every=0, log_every=20, keep_latest=9,
    )  # fmt: skip
    env = {"STORAGE_EMULATOR_HOST": server.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    command = (f"--config={config}", "--workdir=gs://some-bucket/run")
    code, said = program.run(command[0], "--workdir=gs://other-bucket/run", **env)
    assert code == 2 and "Traceback" not in said, said
    assert said.count("error:") == 1 and "no such bucket" in said

    pid = program.start(*command, **env)
    deadline = time.monotonic() + 250
    while len(checkpoints(objects, "commit_success.txt")) < 3:
        assert time.monotonic() < deadline and program.alive(), program.log.read_text()
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert program.end() in (-signal.SIGKILL, 0)  # a fast machine was done first
    before, last = checkpoints(objects, "commit_success.txt")[-3:-1]
    with server.lock:
        for step in checkpoints(objects, "commit_success.txt"):
            if step > last:  # as if it had been killed a little earlier
                del objects[f"run/checkpoints/{step}/commit_success.txt"]
        sums = json.loads(objects[at(last, "checksums.json")][1])
        name = max((n for n in sums if "/d/" in n), key=lambda n: len(objects[at(last, n)][1]))
        generation, data = objects[at(last, name)]
        half = len(data) // 2
        flipped = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
        objects[at(last, name)] = (generation, flipped)
    code, said = program.run(*command, **env)
    assert code == 0, said
    assert f"resuming at step {before} of 80" in said
    assert f"{name} does not have the bytes that were written" in said
    for name in ("eval/80.json", "samples/80.png", "samples/80.npz", "params.txt", "config.json"):
        assert f"run/{name}" in objects
    rows = [json.loads(r) for r in objects["run/metrics.jsonl"][1].decode().splitlines()]
    logged = [r["step"] for r in rows if "train/loss" in r]
    again = list(range(before + 20, 81, 20))
    assert logged == [20, 40, 60, 80] and logged[-len(again) :] == again  # each step once
    assert sum(n.startswith("run/events.out") for n in objects) == 2

    code, said = program.run(f"--config={config}", f"--workdir={tmp_path / 'local'}")
    assert code == 0, said
    for name, (_, data) in objects.items():
        storage.write(tmp_path / "bucket" / name, data)
    ours, theirs = (
        tiny.saved_arrays(tmp_path / w / "checkpoints" / "80") for w in ("bucket/run", "local")
    )
    assert len(ours) == len(theirs) > 10
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    # What reads checkpoints reads them from a bucket too; its network is a module of the tests.
    sample = ("--mode=sample", "--checkpoint=gs://some-bucket/run", f"--workdir={tmp_path / 'out'}")
    code, said = program.run(*sample, **env)
    assert code == 2 and "gs://some-bucket/run/config.json would import tests.my_network" in said, (
        said
    )
    code, said = program.run(*sample, "--trust", **env)
    assert code == 0, said
    drawn = [np.load(tmp_path / n / "samples" / "80.npz")["image"] for n in ("out", "local")]
    np.testing.assert_array_equal(*drawn)


def at(step, name):
    return f"run/checkpoints/{step}/{name}"
