"""Nothing is lost: flipped bytes, two writers, batches that break a run, notices of the end."""

import errno
import json
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from command import config_file, main, program, refused
from conftest import REPO

from diffusion_jax.cli.modes import report, train
from diffusion_jax.data import base
from diffusion_jax.errors import ConfigError, NonFiniteError, Preempted, WorkdirError
from diffusion_jax.runtime import distributed
from diffusion_jax.training import integrity, lock, metrics, restore, state as state_lib
from diffusion_jax.training.tasks.base import Given


class Counter:
    """Adds up the pixels it has seen; one image makes its loss NaN, another one makes it huge."""

    name, unit, note = "counter", "pixels", ""
    ready_at = 0.0
    metrics = ("loss", "grad_norm")
    holds = figure = "a sum"

    def __init__(self, split):
        self.split, self.total = split, None

    def open(self, setting, handed):
        return self

    def initial(self):
        return state_lib.init({"total": jnp.zeros(())}, optax.sgd(0.0), (0.9,))

    def given(self):
        return Given()

    def load(self):
        return self.split, None

    def ready(self, state, train):
        """A new run begins at 1000; what is made ready must be so again after a rollback."""
        if int(state.step) == 0 and self.ready_at:
            params = {"total": state.params["total"] + self.ready_at}
            state = state.replace(params=params)
        return state, train

    def update(self, state, batch, given):
        seen = batch["image"][:, 0, 0, 0].astype(jnp.float32)
        loss = jnp.where((seen == 7).any(), jnp.nan, jnp.where((seen == 9).any(), 1e6, 1.0))
        params = {"total": state.params["total"] + seen.sum()}
        after = state_lib.State(state.step + 1, params, {"0.9": params}, state.opt_state)
        return after, {"loss": loss, "grad_norm": jnp.zeros(())}

    def sample(self, writer, state, step):
        pass

    def finish(self, writer, state):
        self.total = float(state.params["total"])


def counting(tmp_path, **changes):
    """A run that counts 64 images whose pixels are their number, 4 a step."""
    experiment = tiny.experiment(
        tmp_path, batch=8, steps=8, save_every=2, log_every=1, eval_every=0, ema=(0.9,), **changes
    )
    images = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None, None], (64, 4, 4, 1))
    source = tiny.experiment(tmp_path).source.split("train")
    split = source.__class__("numbers", np.ascontiguousarray(images), np.zeros(64, np.int32), 64, 1)
    counter = Counter(split)
    experiment.__dict__["task"] = counter  # what the cached property would build
    return experiment, counter


def test_a_bad_batch_is_left_out(tmp_path, monkeypatch):
    """The order has each image once: without the batch of image 7 the total is known."""
    experiment, found = counting(tmp_path, on_nan="rollback")
    order = [base.indices(i, 8, 64, 0) for i in range(16)]
    bad = next(i for i, rows in enumerate(order) if 7 in rows)
    kept = bad - bad % 2  # the checkpoint before it
    train.run(experiment)
    left = [*range(kept), *range(bad + 1, 8 + bad + 1 - kept)]
    assert found.total == sum(order[i].sum() for i in left)
    rows = [json.loads(r) for r in (experiment.workdir / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "train/rollback" in r] == [kept]
    meta = restore.read_meta(experiment.workdir / "checkpoints" / "8")
    assert meta["skip"] == bad - kept + 1
    # Resumed, it goes on in the same order.
    longer, found = counting(tmp_path, on_nan="rollback")
    longer.config.steps = 10
    train.run(longer)
    more = [8 + bad + 1 - kept, 9 + bad + 1 - kept]
    assert found.total == sum(order[i].sum() for i in left + more)


def test_every_bad_batch_between_two_checkpoints_is_left_out(tmp_path):
    """The second failure after one checkpoint does not bring back the batch of the first."""

    def order(seed):
        return [base.indices(i, 8, 64, seed) for i in range(12)]

    def bad(seed):
        return [bool({7, 9} & set(rows.tolist())) for rows in order(seed)]

    def start(seed):  # of the first three good batches in a row
        return next(i for i in range(9) if not any(bad(seed)[i : i + 3]))

    seed = next(s for s in range(99) if sum(bad(s)[: start(s)]) == 2 and start(s) < 5)
    experiment, found = counting(tmp_path, on_nan="rollback", spike=1e3)
    experiment.config.save_every, experiment.config.steps = 100, 3
    experiment.config.seed = seed
    train.run(experiment)
    first = start(seed)
    assert found.total == sum(rows.sum() for rows in order(seed)[first : first + 3])


def test_what_was_made_ready_is_so_after_a_rollback_to_the_start(tmp_path):
    """Latents are standardised just before the first step, in no checkpoint yet."""
    experiment, found = counting(tmp_path, on_nan="rollback")
    experiment.config.save_every, found.ready_at = 100, 1000.0
    order = [base.indices(i, 8, 64, 0) for i in range(16)]
    bad = next(i for i, rows in enumerate(order) if 7 in rows)
    train.run(experiment)
    assert found.total == 1000.0 + sum(order[bad + 1 + i].sum() for i in range(8))


def test_a_spike_counts_as_nan_and_by_default_stops(tmp_path, monkeypatch):
    with pytest.raises(NonFiniteError, match="at step"):
        train.run(counting(tmp_path)[0])
    shutil.rmtree(tmp_path / "run")
    experiment, _ = counting(tmp_path, spike=1e3)
    with pytest.raises(NonFiniteError) as e:
        train.run(experiment)
    wanted = [i for i in range(8) if {7, 9} & set(base.indices(i, 8, 64, 0).tolist())]
    assert e.value.step == wanted[0]


class Overflow(Counter):
    """Its weights overflow after step 4, and nothing else does."""

    def update(self, state, batch, given):
        after, metrics = super().update(state, batch, given)
        params = {"total": jnp.where(state.step < 4, 0.0, jnp.inf)}
        return after.replace(params=params), metrics | {"loss": jnp.ones(())}


def test_weights_that_overflow_are_never_saved(tmp_path):
    experiment, counter = counting(tmp_path)
    experiment.__dict__["task"] = Overflow(counter.split)
    with pytest.raises(NonFiniteError, match=r"a weight became NaN .* at step 4") as e:
        train.run(experiment)
    assert e.value.step == 4
    assert restore.locate(experiment.workdir)[0].name == "4"


class Stopped(Counter):
    """Is asked to stop while it validates for the first time."""

    def __init__(self, split):
        super().__init__(split)
        self.seen = []

    def load(self):
        return self.split, self.split

    def update(self, state, batch, given):
        after, metrics = super().update(state, batch, given)
        return after, metrics | {"loss": jnp.ones(())}

    def validate(self, state, valid):
        step = int(state.step)
        if not self.seen:
            self.seen.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        self.seen.append(step)
        return {"loss": float(step)}


@pytest.mark.parametrize("last", [4, 8])
def test_a_validation_that_was_interrupted_is_made_up_for(tmp_path, last):
    experiment, counter = counting(tmp_path)
    experiment.config.eval_every, experiment.config.steps = 4, last
    experiment.__dict__["task"] = stopped = Stopped(counter.split)
    with pytest.raises(Preempted):
        train.run(experiment)
    for _ in range(2):  # and it is not made again
        train.run(experiment)
        rows = (experiment.workdir / "metrics.jsonl").read_text().splitlines()
        found = [r["step"] for r in map(json.loads, rows) if "valid/loss" in r]
        assert found == [*range(4, last + 1, 4)]
    assert stopped.seen == [4, *range(4, last + 1, 4)]
    best = restore.restore_newest(experiment.workdir, lambda p: restore.read_meta(p), best=True)[0]
    assert (best["step"], best["metrics"]) == (4, {"valid_loss": 4.0})


def test_the_best_checkpoint_is_kept_that_was_measured_late(tmp_path):
    experiment, counter = counting(tmp_path)
    experiment.config.update(eval_every=4, steps=16, save_every=4, keep_latest=1)
    experiment.__dict__["task"] = Stopped(counter.split)
    with pytest.raises(Preempted):
        train.run(experiment)
    train.run(experiment)
    assert [p.name for p in restore.locate(experiment.workdir)] == ["16", "4"]


def test_a_run_that_cannot_go_on_stops(tmp_path, monkeypatch):
    experiment, _ = counting(tmp_path, on_nan="rollback", spike=0.5)  # every loss is 1
    with pytest.raises(NonFiniteError):
        train.run(experiment)
    with pytest.raises(ConfigError, match="stop, rollback"):
        train.run(counting(tmp_path, on_nan="ignore")[0])


def test_a_flipped_byte_is_named_and_the_checkpoint_before_is_used(tmp_path, monkeypatch, caplog):
    experiment, found = counting(tmp_path)
    experiment.config.steps = 4
    experiment.config.seed = next(  # an order that meets image 7 later
        s for s in range(99) if not any(7 in base.indices(i, 8, 64, s) for i in range(4))
    )
    train.run(experiment)
    total = found.total
    newest = experiment.workdir / "checkpoints" / "4"
    sums = json.loads((newest / integrity.NAME).read_text())
    name = max((n for n in sums if "/d/" in n), key=lambda n: (newest / n).stat().st_size)
    raw = bytearray((newest / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (newest / name).write_bytes(raw)
    with pytest.raises(integrity.Damaged, match="does not have the bytes"):
        integrity.verify(newest)
    with caplog.at_level(logging.ERROR):
        train.run(experiment)
    assert name in caplog.text
    assert found.total == total
    assert (experiment.workdir / "checkpoints" / "damaged-4").is_dir()
    again = experiment.workdir / "checkpoints" / "4"
    (again / next(iter(json.loads((again / integrity.NAME).read_text())))).unlink()
    with pytest.raises(integrity.Damaged, match="is missing"):
        integrity.verify(again)


@pytest.mark.parametrize("figure", [math.nan, None, math.inf])
def test_a_figure_that_is_no_number_is_never_the_best(figure):
    """A record that was read back has None in place of NaN."""
    assert restore.held_out({"valid_bits_per_dim": figure}) == math.inf
    assert restore.held_out({"valid_bits_per_dim": 2.0}) == 2.0


def test_one_writer_at_a_time(tmp_path):
    with lock.only_writer(tmp_path):
        code = (
            "import sys, pathlib\nfrom diffusion_jax.training import lock\n"
            "with lock.only_writer(pathlib.Path(sys.argv[1])): pass"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True,
                              text=True, cwd=REPO)  # fmt: skip
        assert f"is being written by process {os.getpid()}" in done.stderr
        with pytest.raises(WorkdirError), lock.only_writer(tmp_path):
            pass
    with lock.only_writer(tmp_path):
        pass


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"DJAX_NUM_PROCESSES": "2"}, "a cluster by hand needs"),
        ({"DJAX_NUM_PROCESSES": "two", "DJAX_PROCESS_ID": "0", "JAX_COORDINATOR_ADDRESS": "x:1"},
         "whole numbers"),
    ],
)  # fmt: skip
def test_half_a_cluster_is_refused(env, says):
    with pytest.raises(ConfigError, match=says):
        distributed.join(env)


def together(commands, timeout=300):
    """Processes of one cluster, two devices each; their exit codes and errors."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2",
           "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "DJAX_NUM_PROCESSES": str(len(commands)),
           "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}  # fmt: skip
    processes = [
        subprocess.Popen([sys.executable, "-m", "diffusion_jax.main", *map(str, c)], cwd=REPO,
                         stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                         env={**env, "DJAX_PROCESS_ID": str(i)})
        for i, c in enumerate(commands)
    ]  # fmt: skip
    ends = [p.communicate(timeout=timeout) for p in processes]
    return [p.returncode for p in processes], [err for _, err in ends]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Two processes with two devices each, weights split over two, against one process."""
    config = config_file(tmp_path, eval_every=0)
    where = [tmp_path / "one", tmp_path / "two"]
    one = main(f"--config={config}", f"--workdir={where[0]}")
    assert one.returncode == 0, one.stderr
    command = (f"--config={config}", f"--workdir={where[1]}", "--config.mesh=data=2,fsdp=2")
    codes, errors = together([command, command])
    assert codes == [0, 0], errors
    bits = [
        json.loads((w / "eval" / "6.json").read_text())["result"]["bits_per_dim"] for w in where
    ]
    assert bits[0] == pytest.approx(bits[1], rel=1e-5)
    assert math.isfinite(bits[0])
    # Another configuration on one of them is refused by all, at once.
    codes, errors = together([(*command, "--config.lr=0.5"), command], timeout=120)
    assert 2 in codes and 0 not in codes, errors  # who is left behind may be ended by JAX
    assert any("another configuration" in e for e in errors), errors


@pytest.mark.slow
def test_a_second_process_in_the_same_workdir_is_refused(tmp_path):
    config = config_file(tmp_path, steps=100_000, save_every=0, eval_every=0, log_every=10)
    command = (f"--config={config}", f"--workdir={tmp_path / 'a'}")
    first = subprocess.Popen([sys.executable, "-m", "diffusion_jax.main", *command], cwd=REPO,
                             env={**os.environ, "JAX_PLATFORMS": "cpu"},
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "a" / ".lock").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        refused(program(*command), "is being written by process")
    finally:
        first.kill()
        first.wait()


def test_a_disk_that_is_full_when_a_step_is_logged_loses_no_step(tmp_path, monkeypatch):
    class Full:
        def write_scalars(self, step, scalars):
            raise full

        flush = close = lambda self: None

    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "log"))
    experiment, found = counting(tmp_path)
    experiment.config.save_every = 0
    split = found.split
    found.split = split.__class__("numbers", split.images + 10, split.labels, 80, 1)  # none is bad
    with monkeypatch.context() as disk:
        disk.setattr(metrics, "_Events", lambda folder, step: Full())
        with pytest.raises(OSError, match="No space left"):
            train.run(experiment)
    (saved,) = (experiment.workdir / "checkpoints").iterdir()
    assert 1 <= int(saved.name) < 8
    train.run(experiment)
    assert found.total == 64 * 63 / 2 + 640  # from there on, each image once

    def run(experiment):
        raise full

    monkeypatch.setattr(report, "run", run)
    ended = main("report", f"--config={config_file(tmp_path)}", f"--workdir={tmp_path / 'new'}")
    refused(ended, f"{tmp_path / 'log'}: No space left on device")
