"""launch/tpu.py against a gcloud that records what it is asked and plays scripted states."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPO

from launch import gang, tpu
from launch.gang import Host, verdict
from launch.slices import Slice

WHERE = ["--project=p", "--zone=us-west4-a", "--type=v5litepod-8", "--poll=0.01", "--backoff=0.01"]
RUN = ["--workdir=gs://b/run", "--", "--config=configs/digits.py"]
UNIT = gang.Gang(tpu.TpuApi(None, Slice("n", "p", "z-a", "v5litepod-8")), "gs://b/run").unit
ABSENT = [1, "", "ERROR: NOT_FOUND: Resource 'x' was not found"]
BLIP = [1, "", "ERROR: 503 UNAVAILABLE: try again"]
READY = [0, json.dumps({"state": "READY"}), ""]


def request(state):
    return [0, json.dumps({"state": {"state": state}}), ""]


def host(state, code="-", name="h0", unit=UNIT):
    return [0, f"noise\ndjax-status {name} {unit} {state} {code}\n", ""]


def checkpoints(*steps):
    return [0, "".join(f"gs://b/run/checkpoints/{s}/\n" for s in steps), ""]


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """Puts the fake on PATH; call it with the script, then ask it for the commands it saw."""
    folder = tmp_path / "cloud"
    folder.mkdir()
    program = folder / "gcloud"
    fake = REPO / "tests" / "fake_gcloud.py"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {fake} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GCLOUD", str(folder))
    (folder / "script.json").write_text("[]")
    monkeypatch.setattr(gang, "bundle", lambda: ("abc", b"code"))

    class Cloud:
        def script(self, **answers):
            words = {
                "request": ["queued-resources", "describe"],
                "node": ["tpu-vm", "describe"],
                "status": ["ssh", "host.sh status"],
                "start": ["ssh", "host.sh start"],
                "stop": ["ssh", "host.sh stop"],
                "listing": ["queued-resources", "list"],
                "create": ["create"],
                "delete": ["delete"],
                "steps": ["storage", "ls"],
                "instance": ["instances", "describe"],
                "instances": ["instances", "list"],
                "group": ["managed", "describe"],
                "members": ["list-instances"],
            }
            script = [[words[k], v if isinstance(v[0], list) else [v]] for k, v in answers.items()]
            (folder / "script.json").write_text(json.dumps(script))

        def calls(self):
            path = folder / "calls"
            return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []

        def verbs(self):
            """The changes, in order."""
            out = []
            for argv in self.calls():
                text = " ".join(argv)
                for verb in ("create", "delete", "host.sh start", "host.sh stop", "resize"):
                    if verb in text:
                        out.append(verb.removeprefix("host.sh "))
                        break
            return out

    return Cloud()


def test_dry_run_of_every_verb_calls_nothing(cloud, capsys):
    for api, kind in (("tpu", "v5litepod-16"), ("gce", "v6e-16"), ("gce", "v6e-8")):
        for verb in tpu.VERBS:
            argv = [verb, "--dry-run", f"--api={api}", *WHERE, f"--type={kind}", *RUN]
            assert tpu.main(argv) == 0, verb
    assert cloud.calls() == []
    printed = capsys.readouterr().out
    assert "# would read: gcloud" in printed and "queued-resources create" in printed
    assert "gcloud compute instance-groups managed delete" in printed


def test_up_creates_waits_and_is_the_same_the_second_time(cloud):
    cloud.script(
        request=[ABSENT, request("WAITING_FOR_RESOURCES"), request("ACCEPTED"), request("ACTIVE")],
        node=[[0, json.dumps({"state": "CREATING"}), ""], READY],
    )
    assert tpu.main(["up", *WHERE]) == 0
    assert cloud.verbs() == ["create"]
    assert tpu.main(["up", *WHERE]) == 0
    assert cloud.verbs() == ["create"]


def test_the_create_command_as_google_documents_it(cloud, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    cloud.script(request=[ABSENT, request("ACTIVE")], node=READY)
    tpu.main(["up", *WHERE, "--hours=2", "--wait-hours=1", "--name=n"])
    made = next(c for c in cloud.calls() if "create" in c)
    labels = made.pop(next(i for i, a in enumerate(made) if a.startswith("--labels=")))
    assert made == [
        "compute", "tpus", "queued-resources", "create", "n", "--node-id=n", "--zone=us-west4-a",
        "--project=p", "--accelerator-type=v5litepod-8", "--runtime-version=v2-alpha-tpuv5-lite",
        "--spot", "--valid-until-duration=3600s", "--async", "--quiet",
    ]  # fmt: skip
    assert "app=diffusion-jax" in labels and "expires=8200" in labels and "slice=n" in labels


@pytest.mark.parametrize("state", ["SUSPENDED", "SUSPENDING", "FAILED"])
def test_up_replaces_what_can_never_become_active_again(cloud, state):
    cloud.script(request=[request(state), ABSENT, request("ACTIVE")], node=READY)
    assert tpu.main(["up", *WHERE]) == 0
    assert cloud.verbs() == ["delete", "create"]
    assert any("--force" in c for c in cloud.calls() if "delete" in c)


def test_up_replaces_a_preempted_node_whose_request_still_says_active(cloud):
    preempted = [0, json.dumps({"state": "PREEMPTED"}), ""]
    cloud.script(request=[request("ACTIVE"), ABSENT, request("ACTIVE")], node=[preempted, READY])
    assert tpu.main(["up", *WHERE]) == 0
    assert cloud.verbs() == ["delete", "create"]


def test_a_request_that_fails_is_not_asked_for_again_and_again(cloud, capsys):
    cloud.script(request=[ABSENT, request("FAILED")])
    assert tpu.main(["up", *WHERE]) == 1
    assert cloud.verbs() == ["create"]
    assert "failed" in capsys.readouterr().err


def test_no_answer_is_not_an_absent_slice(cloud):
    cloud.script(request=[BLIP, BLIP, request("ACTIVE")], node=[BLIP, READY])
    assert tpu.main(["up", *WHERE]) == 0
    cloud.script(request=BLIP)
    assert tpu.main(["up", *WHERE]) == 1
    assert cloud.verbs() == []  # neither created nor deleted


def test_no_permission_is_said_at_once(cloud, capsys):
    cloud.script(request=[1, "", "ERROR: PERMISSION_DENIED: no"])
    assert tpu.main(["up", *WHERE]) == 1
    assert "PERMISSION_DENIED" in capsys.readouterr().err
    assert len([c for c in cloud.calls() if "describe" in c]) == 1


def test_waiting_too_long_leaves_the_request_in_the_queue(cloud):
    cloud.script(request=[ABSENT, request("WAITING_FOR_RESOURCES")])
    argv = [*WHERE, "--wait-hours=0.00001"]
    assert tpu.main(["babysit", *argv, *RUN]) == 75
    assert cloud.verbs() == ["create"]


def test_down_twice_is_fine(cloud):
    cloud.script(delete=[1, "", "ERROR: NOT_FOUND"], request=ABSENT)
    assert tpu.main(["down", *WHERE]) == 0
    assert tpu.main(["down", *WHERE]) == 0


def test_run_ships_the_code_and_starts_on_every_worker(cloud):
    cloud.script(request=request("ACTIVE"), node=READY, start=host("running"))
    assert tpu.main(["run", *WHERE, *RUN]) == 0
    copied, started = [c for c in cloud.calls() if "cp" in c or "ssh" in c]
    assert copied[-1] == "gs://b/run/code/abc.tgz"
    assert "--worker=all" in started
    (command,) = [a for a in started if a.startswith("--command=")]
    assert f"host.sh start {UNIT} gs://b/run 3 -m diffusion_jax.main" in command


def test_run_without_a_slice_says_so(cloud, capsys):
    cloud.script(request=ABSENT)
    assert tpu.main(["run", *WHERE, *RUN]) == 2
    assert "`up` first" in capsys.readouterr().err


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


def test_a_signal_deletes_the_slice(cloud, tmp_path):
    cloud.script(request=[request("ACTIVE"), request("ACTIVE")], node=READY,
                 status=host("running"))  # fmt: skip
    argv = [sys.executable, "-m", "launch.tpu", "babysit", *WHERE, *RUN]
    process = subprocess.Popen(argv, cwd=REPO, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while "start" not in cloud.verbs() and time.monotonic() < deadline:
        time.sleep(0.05)
    cloud.script(request=ABSENT)
    process.terminate()
    assert process.wait(timeout=60) == 128 + 15
    assert cloud.verbs()[-1] == "delete"


def listed(name, expires, app="diffusion-jax", state="ACTIVE"):
    labels = {"app": app, "owner": "o"} | ({"expires": expires} if expires else {})
    return {"name": f"projects/p/locations/z/queuedResources/{name}", "state": {"state": state},
            "tpu": {"nodeSpec": [{"node": {"labels": labels}}]}}  # fmt: skip


def test_reap_deletes_only_ours_that_are_over(cloud):
    past, future = str(int(time.time()) - 5), str(int(time.time()) + 3600)
    found = [listed("over", past), listed("alive", future), listed("theirs", past, app="x"),
             listed("endless", ""), listed("gone", future, state="SUSPENDED")]  # fmt: skip
    cloud.script(listing=[0, json.dumps(found), ""])
    assert tpu.main(["reap", *WHERE]) == 0
    assert [c[4] for c in cloud.calls() if "delete" in c] == ["over", "gone"]


def test_reap_goes_on_after_a_refusal(cloud):
    past = str(int(time.time()) - 5)
    cloud.script(listing=[0, json.dumps([listed("a", past), listed("b", past)]), ""],
                 delete=[[1, "", "ERROR: 500"], [0, "", ""]])  # fmt: skip
    assert tpu.main(["reap", *WHERE]) == 1
    assert [c[4] for c in cloud.calls() if "delete" in c] == ["a", "b"]


def test_compute_engine_instances_always_have_a_time_limit(cloud):
    running = [0, json.dumps({"status": "RUNNING", "name": "djax"}), ""]
    cloud.script(instance=[ABSENT, running])
    argv = ["up", "--api=gce", *WHERE, "--type=v6e-8", "--hours=3"]
    assert tpu.main(argv) == 0
    (made,) = [c for c in cloud.calls() if "create" in c]
    assert made[:4] == ["compute", "instances", "create", "djax"]
    assert {"--max-run-duration=10800s", "--instance-termination-action=DELETE",
            "--machine-type=ct6e-standard-8t", "--provisioning-model=SPOT"}.issubset(
        made
    )  # fmt: skip


def test_an_old_gcloud_is_asked_by_its_newer_tracks(cloud):
    running = [0, json.dumps({"status": "RUNNING"}), ""]
    cloud.script(
        instance=[ABSENT, running], create=[[2, "", "unrecognized arguments"], [0, "", ""]]
    )
    assert tpu.main(["up", "--api=gce", *WHERE, "--type=v6e-8", "--capacity=flex-start"]) == 0
    tracks = [c[0] for c in cloud.calls() if "create" in c]
    assert tracks == ["compute", "beta"]


def test_no_capacity_is_asked_for_again(cloud):
    full = [1, "", "ZONE_RESOURCE_POOL_EXHAUSTED"]
    running = [0, json.dumps({"status": "RUNNING"}), ""]
    cloud.script(instance=[ABSENT, ABSENT, running], create=[full, [0, "", ""]])
    assert tpu.main(["up", "--api=gce", *WHERE, "--type=v6e-8"]) == 0
    assert cloud.verbs() == ["create", "create"]


def test_several_hosts_on_compute_engine_are_a_group_in_bulk_mode(cloud):
    members = [{"instance": f"https://x/instances/m{i}", "instanceStatus": "RUNNING"}
               for i in range(4)]  # fmt: skip
    cloud.script(
        group=[ABSENT, [0, "{}", ""]], members=[0, json.dumps(members), ""],
        start=host("running"),
    )  # fmt: skip
    argv = ["--api=gce", *WHERE, "--type=v6e-16", "--yes"]
    assert tpu.main(["up", *argv]) == 0
    assert cloud.verbs() == ["create", "create", "create", "resize"]
    group = [c for c in cloud.calls() if "create" in c][-1]
    assert {"--size=0", "--target-size-policy-mode=bulk"} <= set(group)
    assert tpu.main(["run", *argv, *RUN]) == 0
    assert sorted(c[2] for c in cloud.calls() if "ssh" in c) == ["m0", "m1", "m2", "m3"]
    cloud.script(group=[[0, "{}", ""], ABSENT], members=[0, json.dumps(members), ""])
    assert tpu.main(["down", *argv]) == 0
    deleted = [c for c in cloud.calls() if "delete" in c]
    assert [c[1] for c in deleted] == ["instance-groups", "instance-templates", "resource-policies"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["up", "--zone=z-a", "--type=v6e-8"], "--project"),
        (["up", "--project=p", "--type=v6e-8"], "--zone"),
        (["up", *WHERE, "--type=v9-8"], "v5litepod-N"),
        (["up", *WHERE, "--type=tpu7x-8"], "--api=gce"),
        (["up", "--api=gce", *WHERE], "--api=tpu"),
        (["up", *WHERE, "--name=Big_Name"], "--name"),
        (["up", *WHERE, "--type=v5litepod-256"], "--yes"),
        (["babysit", *WHERE, "--", "--config=c"], "--workdir"),
        (["babysit", *WHERE, "--workdir=gs://b/r"], "after --"),
        (["run", *WHERE, "--type=v5litepod-16", "--workdir=runs/x", "--", "--config=c"], "gs://"),
        (["run", *WHERE, "--workdir=gs://b/r", "--", "--api_key=123"], "secret"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_call_nothing_that_changes(
    cloud, capsys, monkeypatch, argv, said
):
    monkeypatch.delenv("CLOUDSDK_CORE_PROJECT", raising=False)
    assert tpu.main(argv) == 2
    error = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(error) == 1 and said in error[0]
    assert cloud.verbs() == []


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


def test_an_unknown_state_of_a_slice_is_waited_for_not_deleted(cloud):
    cloud.script(request=request("SOMETHING_NEW"))
    backend = tpu.TpuApi(tpu.Gcloud(), Slice("n", "p", "z-a", "v6e-8"))
    assert backend.state() == "queued"


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
