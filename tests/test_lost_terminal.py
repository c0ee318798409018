"""What is measured is written, whatever becomes of the terminal."""

import json
import os
import sys
from pathlib import Path

import pytest

from diffusion_jax.cli.modes import _records
from diffusion_jax.runtime import output
from diffusion_jax.runtime.progress import progress


def closed_pipe(path):
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


def full_disk(path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    return open("/dev/full", "w", encoding="utf-8")


def latin(path):
    return (path / "log").open("a", encoding="latin-1")


@pytest.mark.parametrize("stream", [closed_pipe, full_disk, latin])
def test_what_is_measured_is_written_whatever_becomes_of_the_terminal(
    stream, tmp_path, monkeypatch
):
    streams = {name: stream(tmp_path) for name in ("stdout", "stderr")}
    for name, each in streams.items():
        monkeypatch.setattr(sys, name, each)
    output.keep_going()
    output.keep_going()  # once is enough
    with progress("train", 3, every=0.0) as bar:
        for done in range(1, 4):
            bar.at(done, "läuft")
    path = _records.publish(tmp_path / "eval/6.json", {"of": "猫"}, "3.21 ± 0.01 bits/dim of 猫")
    assert json.loads(path.read_text()) == {"of": "猫"}
    for each in streams.values():
        each.close()  # nor does the program's end complain
    if stream is latin:
        said = (tmp_path / "log").read_text(encoding="latin-1")
        assert "3.21 ± 0.01 bits/dim of \\u732b\n  written to " in said and "läuft" in said
