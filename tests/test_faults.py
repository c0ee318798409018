"""Faults in real processes: peers that do not come, die, freeze or raise; untimely notices."""

import json
import os
import signal
import socket
import time

import numpy as np
import pytest
import tiny
from command import config_file
from forked_program import ForkedProgram

OPTIONS = ("--config.sample.num=4", "--config.sample.batch=4", "--config.eval.limit=8")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cluster(rank, port, **more):
    return {
        "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "DJAX_NUM_PROCESSES": "2",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo", "DJAX_PROCESS_ID": str(rank),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "DJAX_HEARTBEAT_TIMEOUT": "10", **more,
    }  # fmt: skip


def until(true, what, seconds=300):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.002)


@pytest.fixture(scope="module")
def imported():
    """Two programs that have imported JAX, for all tests here."""
    made = [ForkedProgram(None), ForkedProgram(None)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def pair(imported, tmp_path):
    for i, one in enumerate(imported):
        if one.pid is not None:  # a test has failed and left its run
            one.close()
            imported[i] = one = ForkedProgram(None)
        one.log = tmp_path / f"log{i}"
    return imported


@pytest.mark.slow
def test_a_peer_that_does_not_come(pair, tmp_path):
    """Whether it is the coordinator that waits or the other: a line, and an end."""
    command = (f"--config={config_file(tmp_path)}", f"--workdir={tmp_path / 'run'}")
    for rank, one in enumerate(pair):  # each in a cluster of its own
        one.start(*command, **cluster(rank, free_port(), DJAX_START_TIMEOUT="3"))
    for one in pair:
        assert one.end() == 1
        said = one.log.read_text()
        assert "error: after 3 s not all processes of the cluster have joined" in said
        assert "Traceback" not in said and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_peer_that_dies_freezes_or_raises_ends_the_others(pair, tmp_path):
    config = config_file(tmp_path, steps=10**6, save_every=0, eval_every=0, log_every=5)
    for fault in ("raises", "killed", "frozen"):
        port, workdir = free_port(), tmp_path / fault
        command = (f"--config={config}", f"--workdir={workdir}", *OPTIONS)
        raises = {"RAISE": "1"} if fault == "raises" else {}
        pids = [
            one.start(*command, **cluster(i, port, **(raises if i else {})))
            for i, one in enumerate(pair)
        ]
        lines = workdir / "metrics.jsonl"

        def printed():
            return pair[0].log.read_text()[-3000:] + pair[1].log.read_text()[-3000:]

        if fault != "raises":
            until(lambda lines=lines: lines.exists() and lines.read_text(), printed)
            os.kill(pids[1], signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
        assert pair[0].end() not in (0, 2, 42), printed()  # it ends, and may be tried again
        if fault == "frozen":
            os.kill(pids[1], signal.SIGKILL)
        code = pair[1].end()
        assert code == (-signal.SIGKILL if fault != "raises" else 1), printed()
        text = pair[0].log.read_text()
        assert "rror" in text.rpartition("training at step 0")[2], text  # and says why
        if fault == "raises":
            assert "one host has a problem of its own" in pair[1].log.read_text()
        pair[0].log.unlink()


@pytest.mark.slow
def test_a_notice_while_compiling_saving_validating_measuring_or_sampling(pair, tmp_path):
    """Each time the state is saved, the code is 42, and the next run goes on as if never asked."""
    program = pair[0]
    config = config_file(tmp_path, steps=40, save_every=10, eval_every=10, log_every=10)
    workdir = tmp_path / "asked"
    command = (f"--config={config}", f"--workdir={workdir}", *OPTIONS)
    folder = workdir / "checkpoints"

    def said(text, after=""):
        def there():
            now = program.log.read_text() if program.log.exists() else ""
            return text in (now.partition(after)[2] if after else now)

        return there

    def saving():
        return folder.is_dir() and any("tmp" in n for n in os.listdir(folder))

    moments = {
        "compiling": said("training at step 0"),
        "validating": said("reached: measure"),
        "saving": saving,
        "measuring": said("reached: measure", after="trained "),
        "sampling": said("reached: generate"),
    }
    steps = []
    for name, moment in moments.items():
        if program.log.exists():
            program.log.rename(tmp_path / f"log before {name}")
        pid = program.start(*command)
        until(moment, lambda name=name: f"{name}: {program.log.read_text()}")
        os.kill(pid, signal.SIGTERM)
        assert program.end() == 42, f"{name}: {program.log.read_text()}"
        assert "stopped: preempted" in program.log.read_text()
        steps.append(max(int(n) for n in os.listdir(folder) if n.isdigit()))
    assert steps == sorted(steps) and steps[1] >= 10 and steps[-1] == 40, steps
    program.start(*command)
    assert program.end() == 0, program.log.read_text()
    program.start(f"--config={config}", f"--workdir={tmp_path / 'whole'}", *OPTIONS)
    assert program.end() == 0, program.log.read_text()
    both = [tmp_path / "whole", workdir]
    ours, theirs = (tiny.saved_arrays(w / "checkpoints" / "40") for w in both)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    reports = [json.loads((w / "eval" / "40.json").read_text())["result"] for w in both]
    assert reports[0] == reports[1]
