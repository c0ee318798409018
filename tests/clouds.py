"""A gcloud that records what it is asked and plays scripted states."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from launch import check, gang, tpu
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
    fake = Path(__file__).with_name("fake_gcloud.py")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {fake} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GCLOUD", str(folder))
    (folder / "script.json").write_text("[]")
    monkeypatch.setattr(gang, "bundle", lambda: ("abc", b"code"))
    monkeypatch.setattr(tpu, "tree", list)  # the tests may run outside of a clone
    monkeypatch.setattr(
        check, "problem", lambda arguments, devices: ""
    )  # tests/test_launch_check.py

    class Cloud:
        def script(self, **answers):
            """Says what comes of each command; `deleted` is `request`'s once delete was called."""
            words = {
                "deleted": ["queued-resources", "describe"],
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
            script = [
                [words[k], v if isinstance(v[0], list) else [v], "delete" * (k == "deleted")]
                for k, v in answers.items()
            ]
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
