"""Notices to stop, of a machine that is taken away or of a user: heard, and nothing is lost."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from command import config_file, main, program
from conftest import REPO

from diffusion_jax.errors import Preempted
from diffusion_jax.runtime import preemption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_notice_stops_after_the_step_or_at_once(number):
    before = signal.getsignal(number)
    with preemption.listening() as notice:
        assert not notice.reached(1, 1)
        with notice.interruptible():
            pass
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert notice.reached(2, 2)
        # A second Ctrl-C is the system's, which ends the process.
        last = {signal.SIGINT: signal.SIG_DFL}.get(number, signal.getsignal(number))
        assert signal.getsignal(number) == last
        with pytest.raises(Preempted), notice.interruptible():
            raise AssertionError("the work was begun")
    assert signal.getsignal(number) == before


def test_ctrl_c_in_a_cluster_is_passed_on_to_the_preemption_service(monkeypatch):
    sent = []
    monkeypatch.setattr(preemption.jax, "process_count", lambda: 2)
    monkeypatch.setattr(preemption.os, "kill", lambda pid, number: sent.append((pid, number)))
    with preemption.listening():
        signal.raise_signal(signal.SIGINT)
    assert sent == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize(("mode", "code"), [("train", 42), ("eval", 130)])
def test_ctrl_c_before_anything_is_to_be_saved_is_one_line(tmp_path, monkeypatch, mode, code):
    def run(experiment):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module(f"diffusion_jax.cli.modes.{mode}"), "run", run)
    done = main(mode, f"--config={config_file(tmp_path)}", f"--workdir={tmp_path}/run")
    assert done.returncode == code
    assert done.stderr.startswith("stopped: interrupted") and done.stderr.count("\n") == 1


def test_a_notice_interrupts_work_that_keeps_no_state():
    def work():
        with preemption.listening() as notice, notice.interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(Preempted):
        work()


def test_no_library_swallows_a_notice():
    done = []

    def careless():
        with preemption.listening() as notice, notice.interruptible():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            except Exception:  # as caches read what may be damaged
                done.append("swallowed")

    def destructor():
        with preemption.listening() as notice, notice.interruptible():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            except BaseException:  # as Python does in a destructor
                done.append("dropped")

    for work in (careless, destructor):
        with pytest.raises(Preempted):
            work()
    assert done == ["dropped"]


@pytest.mark.slow
def test_sigterm_saves_and_exits_42_and_loses_nothing(tmp_path):
    config = config_file(tmp_path, steps=4000, save_every=10_000, eval_every=0, log_every=100)
    command = [sys.executable, "-m", "diffusion_jax.main", f"--config={config}",
               f"--workdir={tmp_path / 'a'}"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=REPO, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    lines = tmp_path / "a" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (lines.exists() and lines.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 42, err
    assert "stopped: preempted" in err
    (step,) = [int(p.name) for p in (tmp_path / "a" / "checkpoints").iterdir() if p.name.isdigit()]
    assert 100 <= step < 4000
    for name in "ab":
        assert program(f"--config={config}", f"--workdir={tmp_path / name}").returncode == 0
    reports = [json.loads((tmp_path / n / "eval" / "4000.json").read_text()) for n in "ab"]
    assert reports[0]["result"] == reports[1]["result"]
