"""Killed again and again at random moments, a run ends with the weights of one that never was."""

import contextlib
import os
import signal
import time

import numpy as np
import pytest
import tiny
from command import config_file
from forked_program import ForkedProgram

KILLS = int(os.environ.get("DIFFUSION_JAX_SOAK", "6"))
STEPS = 10 * KILLS + 20
SEED = 1


@pytest.fixture
def program(tmp_path):
    made = ForkedProgram(tmp_path / "log")
    yield made
    made.close()


def saving(workdir):
    """Names of checkpoints that are being written."""
    folder = workdir / "checkpoints"
    names = os.listdir(folder) if folder.is_dir() else []
    return {n for n in names if "tmp" in n}


def wait_for(moment, workdir, rng, program):
    """Waits for a moment of a run, or its end: while it starts or compiles, takes steps, saves.

    `"caught"` leaves the run stopped (SIGSTOP) with a save that is certainly not finished.
    """

    def until(true):
        deadline = time.monotonic() + 250
        while not true() and program.alive():
            assert time.monotonic() < deadline, f"no {moment}: {program.log.read_text()}"
            time.sleep(0.0005)

    def caught():
        before.intersection_update(saving(workdir))  # a start removes what a killed one has left
        if not saving(workdir) - before:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(program.pid, signal.SIGSTOP)
            if saving(workdir) - before:
                return True
            os.kill(program.pid, signal.SIGCONT)  # it was faster: the next one
        return False

    if moment == "start":
        time.sleep(rng.uniform(0.0, 1.5))
    elif moment == "step":
        lines = workdir / "metrics.jsonl"
        size = lines.stat().st_size if lines.exists() else 0
        until(lambda: lines.exists() and lines.stat().st_size > size)
        time.sleep(rng.uniform(0.0, 0.05))
    elif moment == "caught":
        before = saving(workdir)  # of a run that was killed
        until(caught)
    else:
        seen = set()
        many = int(rng.integers(1, 3))
        until(lambda: len(seen.update(saving(workdir)) or seen) >= many)
        time.sleep(rng.uniform(0.0, 0.03))


@pytest.mark.slow
def test_killed_at_random_moments_the_weights_are_the_same_bit_for_bit(program, tmp_path):
    config = config_file(
        tmp_path, steps=STEPS, save_every=8, log_every=4, eval_every=0, keep_latest=3
    )
    options = ("--config.sample.num=0", "--config.eval.limit=8")
    workdir = tmp_path / "killed"
    command = (f"--config={config}", f"--workdir={workdir}", *options)
    rng = np.random.default_rng(SEED)
    moments = [("caught", "start", "step", "save")[i % 4] for i in range(KILLS)]
    rng.shuffle(moments)
    left_unfinished, steps = 0, []
    for moment in moments:
        pid = program.start(*command)
        wait_for(moment, workdir, rng, program)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        code = program.end()
        if code == 0:  # a fast machine was done first
            break
        assert code == -signal.SIGKILL, program.log.read_text()
        left_unfinished += bool(saving(workdir))
        folder = workdir / "checkpoints"
        done = [int(n) for n in os.listdir(folder) if n.isdigit()] if folder.is_dir() else []
        steps.append(max(done, default=0))
    assert steps == sorted(steps) and 0 < steps[-1] < STEPS, steps
    assert len(steps) > KILLS // 2, steps
    assert left_unfinished, moments  # some were killed while they saved
    program.start(*command)
    assert program.end() == 0, program.log.read_text()
    assert not saving(workdir)
    program.start(f"--config={config}", f"--workdir={tmp_path / 'whole'}", *options)
    assert program.end() == 0
    ours, theirs = (
        tiny.saved_arrays(w / "checkpoints" / str(STEPS)) for w in (workdir, tmp_path / "whole")
    )
    assert len(ours) == len(theirs) > 10
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
