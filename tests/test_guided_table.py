"""The table of guidance by texts: its rows, its columns, and what is not measured again."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import guided
from diffusion_jax import registry


def test_the_rows_are_guidance_that_exists():
    rows = guided.settings("runs/c")
    built = {name: registry.build("guidance", spec) for name, spec in rows.items()}
    assert len(set(map(repr, built.values()))) == len(rows) == 2 + 4 + 16 + 1 + 2
    assert (built["null, logit 5"].form, built["null, logit 5"].scale) == ("logit", 5.0)
    assert built["null, logit 5"].inner.w == 0.0
    assert built["bank 1"].inner is None
    assert built["cfg 2, bank 1"].inner.w == 2.0


def test_leak_and_errors_are_over_seeds():
    def row(name, seed, own, other):
        return {"row": name, "seed": seed, "own CLIP": own, "other CLIP": other, "bits": 1.0}

    rows = [row("none", 0, 10.0, 10.0), row("none", 1, 12.0, 11.0)]
    rows += [row("bank 1", 0, 20.0, 14.0), row("bank 1", 1, 20.0, 15.0)]
    shown = guided.show(rows, ["none", "cfg 2", "bank 1"], {"own CLIP": 30.0})
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in shown.splitlines()]
    assert lines[0] == ["guidance", "own CLIP", "other CLIP", "leak", "bits"]
    assert lines[2] == ["real images", "30", "", "", ""]
    assert lines[3][3] == "0 +- 0"
    assert lines[4] == ["bank 1", "20 +- 0", "14.5 +- 0.5", "5 +- 1", "1 +- 0"]  # (6 + 4) / 2


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`main` with everything that draws replaced; what it measured."""
    asked = []
    row = {"own CLIP": 1.0, "other CLIP": 1.0}
    split = SimpleNamespace(images=np.zeros((2, 4, 4, 1), np.uint8))
    run = SimpleNamespace(weights=lambda: ({}, {}), source=SimpleNamespace(split=lambda _: split))
    monkeypatch.setattr(guided, "config_of", lambda args, guidance: run)
    monkeypatch.setattr(guided.judges, "check_apart", lambda run: None)
    monkeypatch.setattr(guided.judges, "alike", lambda *rest: {"score": 1.0})
    monkeypatch.setattr(guided.judges, "texts_of", lambda *rest: ["a", "b"])
    monkeypatch.setattr(guided.clip_model, "opened", lambda *rest, **more: None)
    monkeypatch.setattr(guided.other_runs, "saved", lambda *rest: None)
    monkeypatch.setattr(guided, "figures", lambda *rest: dict(row))
    bench = SimpleNamespace(floor=lambda: {})
    monkeypatch.setattr(guided.quality_lib, "open_bench", lambda run: bench)
    monkeypatch.setattr(guided.cpu_devices, "share", lambda n: None)

    def measure(run, params, bench, own, seeds):
        asked.append(list(seeds))
        return [dict(row) for _ in seeds]

    monkeypatch.setattr(guided, "measure", measure)

    def call(*more):
        asked.clear()
        named = [f"--{k}=runs/{k}" for k in ("checkpoint", "clip", "other")]
        monkeypatch.setattr(sys, "argv", ["x", *named, f"--json={tmp_path}/t.json", *more])
        guided.main()
        return list(asked)

    return call


def test_what_is_there_is_not_drawn_again(command, tmp_path, capsys):
    assert command("--rows=^cfg", "--seeds", "0") == [[0]] * 6
    assert command("--rows=^cfg", "--seeds", "0", "2") == [[2]] * 6
    assert command("--rows=none", "--seeds", "0", "2") == [[0, 2]]
    assert len(json.loads((tmp_path / "t.json").read_text())["rows"]) == 14
    assert capsys.readouterr().out.count("| cfg 2 |") == 3
    with pytest.raises(SystemExit):
        command("--num=7")
    assert "was made with other settings" in capsys.readouterr().err
