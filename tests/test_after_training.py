"""The end of a run, killed between any two of its files; and what is logged twice."""

import itertools
import json
from types import SimpleNamespace

import pytest
import tiny

from diffusion_jax.cli.modes import _after_training, train
from diffusion_jax.training.metrics import Writer


class Killed(Exception):
    pass


def rows(workdir):
    return [json.loads(r) for r in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("after", range(1, 5))
def test_an_end_that_was_killed_is_made_up_for(tmp_path, monkeypatch, after):
    experiment = tiny.experiment(tmp_path)
    made, clock = [], itertools.count()

    def make(name, path=None, text=""):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        made.append(name)
        if next(clock) + 1 == after:
            raise Killed

    figures = json.dumps({"result": {"bits_per_dim": 2.5, "standard_error": 0.5}})
    files = {n: experiment.workdir / n for n in ("eval/6.json", "samples/6.npz")}
    modes = SimpleNamespace(
        report_path=lambda *_: files["eval/6.json"],
        evaluate=lambda *_: make("eval", files["eval/6.json"], figures),
        sample=lambda *_: make("samples", files["samples/6.npz"]),
        illustrate=lambda e, p, r, cheap: make("movie" if cheap else "no movie"),
        after_training=lambda e, draw: (draw(), make("report")),
    )
    for name in ("eval_mode", "sample_mode", "report_mode"):
        monkeypatch.setattr(_after_training, name, modes)
    monkeypatch.setattr(Writer, "image", lambda *_: None)

    def finish():
        writer = Writer(experiment.workdir)
        writer.go_on(6)
        try:
            _after_training._finish_model(experiment, {}, 6, writer)
        finally:
            writer.close()

    with pytest.raises(Killed):
        finish()
    for _ in range(2):
        finish()
    assert made.count("eval") == made.count("samples") == 1
    assert {"movie", "report"} <= set(made)
    (logged,) = [r for r in rows(experiment.workdir) if "test/bits_per_dim" in r]
    assert logged["test/bits_per_dim"] == 2.5 and logged["step"] == 6


def test_steps_that_are_made_again_are_logged_once(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1e9)  # a clock that jumps back, or stands still
    first = Writer(tmp_path)
    for step in range(1, 6):
        first.scalars(step, {"train/loss": 1.0})
    first.scalars(3, {"valid/loss": 7.0})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as f:
        f.write("torn")
    again = Writer(tmp_path)
    again.go_on(3)
    assert again.found["valid/loss"] == 7.0 and again.found["train/loss"] == 1.0
    again.scalars(4, {"train/loss": 2.0})
    again.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert "torn" in lines
    found = [json.loads(line) for line in lines if line != "torn"]
    assert [(r["step"], r["train/loss"]) for r in found if "train/loss" in r] == [
        (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)
    ]  # fmt: skip
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2


def test_no_samples_are_none_on_the_way_either(tmp_path):
    run = tiny.experiment(tmp_path, steps=2, sample_every=1, eval_every=0, save_every=2)
    run.config.sample.num = 0
    train.run(run)
    assert (run.workdir / "eval" / "2.json").exists()
    assert not (run.workdir / "samples").exists()
