"""launch/tpu.py against a gcloud that records what it is asked and plays scripted states."""

import json
import time

import pytest
from clouds import ABSENT, BLIP, READY, RUN, UNIT, WHERE, host, request

from launch import gang, tpu
from launch.slices import Slice


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


def test_data_are_copied_to_every_host_before_the_run_starts(cloud):
    cloud.script(request=request("ACTIVE"), node=READY, start=host("running"))
    assert tpu.main(["run", *WHERE, "--data=gs://b/sets/", *RUN]) == 0
    (started,) = [c for c in cloud.calls() if "ssh" in c]
    assert "--worker=all" in started
    (command,) = [a for a in started if a.startswith("--command=")]
    copied = "gcloud storage rsync --recursive gs://b/sets $HOME/tensorflow_datasets; "
    assert 0 < command.index(copied) < command.index("host.sh start")


def test_what_the_trainer_would_refuse_is_refused_before_anything_is_paid(
    cloud, capsys, monkeypatch
):
    monkeypatch.setattr(
        tpu.check, "problem", lambda arguments, devices: f"{devices}: no {arguments[0]}"
    )
    cloud.script(request=ABSENT)
    assert tpu.main(["babysit", *WHERE, *RUN]) == 2
    assert "8: no --config=configs/digits.py" in capsys.readouterr().err
    assert cloud.verbs() == []


def test_run_without_a_slice_says_so(cloud, capsys):
    cloud.script(request=ABSENT)
    assert tpu.main(["run", *WHERE, *RUN]) == 2
    assert "`up` first" in capsys.readouterr().err


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
        (["babysit", *WHERE, "--wait-hours=inf", *RUN], "--wait-hours"),
        (["up", *WHERE, "--hours=nan"], "--hours"),
        (["up", *WHERE, "--max-price=nan"], "--yes"),
        (["babysit", *WHERE, "--poll=-1", *RUN], "--poll=-1"),
        (["up", *WHERE, "--poll=nan"], "--poll=nan"),
        (["babysit", *WHERE, "--backoff=inf", *RUN], "--backoff=inf"),
        (["babysit", *WHERE, "--workdir=runs/x", "--", "--config=c"], "the disk goes with"),
        (["run", *WHERE, "--type=v5litepod-16", "--workdir=runs/x", "--", "--config=c"], "gs://"),
        (["run", *WHERE, "--workdir=runs/x", "--", "--config=c"], "inside the code"),
        (["run", *WHERE, "--workdir=gs://b/r", "--data=/sets", "--", "--config=c"], "gs://"),
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


@pytest.mark.parametrize("verb", ["babysit", "run"])
def test_a_tree_that_git_does_not_know_is_refused_first(cloud, capsys, monkeypatch, tmp_path, verb):
    monkeypatch.setattr(gang, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(tpu, "tree", gang.tree)
    cloud.script(request=request("ACTIVE"), node=READY)
    assert tpu.main([verb, *WHERE, *RUN]) == 2
    assert f"error: hosts are sent what git sees of {tmp_path}" in capsys.readouterr().err
    assert cloud.verbs() == []
    monkeypatch.setattr(gang.subprocess, "run", missing)
    with pytest.raises(gang.LaunchError, match="git is not installed"):
        gang.tree()


def missing(argv, **how):
    raise FileNotFoundError(argv[0])


def test_logs_without_gcloud_are_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tpu.main(["logs", *WHERE]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: gcloud is not installed: https://cloud.google.com/sdk"
    ]


def test_an_unknown_state_of_a_slice_is_waited_for_not_deleted(cloud):
    cloud.script(request=request("SOMETHING_NEW"))
    backend = tpu.TpuApi(tpu.Gcloud(), Slice("n", "p", "z-a", "v6e-8"))
    assert backend.state() == "queued"
