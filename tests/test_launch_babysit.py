"""Babysitting a run: preemptions, crashes, lost connections, and nobody pays for what is over."""

import subprocess
import sys
import time

import pytest
from clouds import ABSENT, BLIP, READY, RUN, WHERE, checkpoints, host, request
from conftest import REPO

from launch import tpu


def test_babysit_sees_a_run_through_a_preemption(cloud):
    """Preempted while running (the state says so, the hosts are silent), then done."""
    cloud.script(
        request=[ABSENT, request("ACTIVE"), request("ACTIVE"), request("SUSPENDED"),
                 request("SUSPENDED"), ABSENT, request("ACTIVE"), request("ACTIVE"), ABSENT],
        node=READY,
        status=[host("running"), host("exited", 0)],
    )  # fmt: skip
    assert tpu.main(["babysit", *WHERE, *RUN]) == 0
    assert cloud.verbs() == ["create", "start", "delete", "create", "start", "delete"]


def test_exit_42_is_free_of_charge(cloud):
    """Six preemptions on a slice that stays: more than the failures that are allowed."""
    codes = [host("exited", 42)] * 6 + [host("exited", 0)]
    cloud.script(request=request("ACTIVE"), node=READY, status=codes)
    assert tpu.main(["babysit", *WHERE, "--keep", *RUN]) == 0
    assert cloud.verbs() == ["start", "stop"] * 6 + ["start"]


def test_three_crashes_at_one_checkpoint_end_it_with_the_jobs_code_and_no_slice(cloud):
    deleted = [request("ACTIVE")] * 6 + [ABSENT]
    cloud.script(request=deleted, node=READY, status=host("exited", 7), steps=checkpoints(10, 100))
    assert tpu.main(["babysit", *WHERE, *RUN]) == 7
    assert cloud.verbs() == ["start", "stop"] * 3 + ["delete"]


def test_crashes_do_not_add_up_while_checkpoints_advance(cloud):
    cloud.script(
        request=request("ACTIVE"), node=READY,
        status=[host("exited", 7)] * 5 + [host("exited", 0)],
        steps=[checkpoints(*range(10, n, 10)) for n in (20, 30, 40, 50, 60, 70)],
    )  # fmt: skip
    assert tpu.main(["babysit", *WHERE, "--keep", *RUN]) == 0
    assert cloud.verbs() == ["start", "stop"] * 5 + ["start"]


def test_a_mistake_is_never_repeated(cloud):
    cloud.script(
        request=[request("ACTIVE"), request("ACTIVE"), ABSENT], node=READY,
        status=host("exited", 2),
    )  # fmt: skip
    assert tpu.main(["babysit", *WHERE, *RUN]) == 2
    assert cloud.verbs() == ["start", "delete"]


def test_a_lost_connection_is_no_crash(cloud):
    lost = [255, "", "ssh: connect to host: timed out"]
    cloud.script(
        request=request("ACTIVE"), node=READY,
        status=[lost, lost, host("running"), lost, host("exited", 0)],
    )  # fmt: skip
    assert tpu.main(["babysit", *WHERE, "--keep", *RUN]) == 0
    assert cloud.verbs() == ["start"]


def test_a_slice_that_stays_silent_is_replaced(cloud):
    lost = [255, "", "ssh: connect to host: timed out"]
    cloud.script(
        request=[*[request("ACTIVE")] * 11, ABSENT, ABSENT, request("ACTIVE")], node=READY,
        status=[*[lost] * 10, host("exited", 0)],
    )  # fmt: skip
    assert tpu.main(["babysit", *WHERE, "--keep", *RUN]) == 0
    assert cloud.verbs() == ["start", "stop", "delete", "create", "start"]


def test_blips_while_watching_delete_nothing(cloud):
    cloud.script(
        request=[request("ACTIVE"), *[BLIP] * 7, request("ACTIVE")], node=READY,
        status=host("exited", 0),
    )  # fmt: skip
    assert tpu.main(["babysit", *WHERE, "--keep", *RUN]) == 0
    assert cloud.verbs() == ["start"]


BUSY = [3, "", "host.sh: this host is busy with another run; stop it first"]


@pytest.mark.parametrize("answer", [BUSY, [1, *BUSY[1:]]])
def test_the_slice_of_another_run_is_never_deleted(cloud, capsys, answer):
    """By gcloud's own exit code too: it may have one of its own for several workers."""
    cloud.script(request=request("ACTIVE"), node=READY, start=answer)
    assert tpu.main(["babysit", *WHERE, *RUN]) == 2
    assert cloud.verbs() == ["start", "stop"]
    assert "error: djax is busy with another run" in capsys.readouterr().err


def test_a_slice_that_was_there_and_on_which_nothing_started_is_not_deleted(cloud, capsys):
    cloud.script(request=request("ACTIVE"), node=READY, start=[1, "", "no space left"])
    assert tpu.main(["babysit", *WHERE, *RUN]) == 1
    assert cloud.verbs() == ["start"] * 3
    assert "not deleted" in capsys.readouterr().err


def test_a_slice_that_came_for_us_is_deleted_though_nothing_started(cloud):
    cloud.script(deleted=ABSENT, request=[request("ACCEPTED"), request("ACTIVE")], node=READY,
                 start=[1, "", "no space left"])  # fmt: skip
    assert tpu.main(["babysit", *WHERE, *RUN]) == 1
    assert cloud.verbs() == ["start"] * 3 + ["delete"]


def test_a_signal_deletes_the_slice(cloud):
    cloud.script(deleted=ABSENT, request=request("ACTIVE"), node=READY, status=host("running"))
    argv = [sys.executable, "-m", "launch.tpu", "babysit", *WHERE, *RUN]
    process = subprocess.Popen(argv, cwd=REPO, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while "start" not in cloud.verbs() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=300) == 128 + 15
    assert cloud.verbs()[-1] == "delete"
