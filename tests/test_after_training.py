"""The end of a run, killed between any two of its files; and what is logged twice."""

import importlib
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import _after_training, _earlier, train
from diffusion_jax.cli.report.curves import read_curves
from diffusion_jax.errors import WorkdirError
from diffusion_jax.experiment import prepare_workdir
from diffusion_jax.experiment.workdir import RESULTS
from diffusion_jax.training import metrics
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
        evaluate=lambda *_: make("eval", files["eval/6.json"], figures) or json.loads(figures),
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


def test_figures_of_other_settings_are_not_the_run_s(tmp_path):
    """What somebody measured or drew while the run was stopped stands beside its own results."""
    run = tiny.experiment(tmp_path)
    (run.workdir / "eval").mkdir(parents=True)
    (run.workdir / "samples").mkdir()
    paths = [run.workdir / "eval" / name for name in ("6.json", "6_2.json", "6_3.json")]

    def write(path, weights="0.9", guide=False, **changes):
        other = tiny.experiment(tmp_path)
        for name, value in changes.items():
            setattr(other.config.eval if name in other.config.eval else other.config, name, value)
        config = saved_config.to_dict(other.config)
        model = {"weights": weights, "config": config}
        record = {"weights": {"weights": weights}, "config": config} if guide else {"model": model}
        path.write_text(json.dumps(record | {"which": path.stem}))

    others = {"limit": 4}, {"draws": 4}, {"split": "valid"}, {"weights": "params"}, {"lr": 0.5}
    for guide in (False, True):
        for other in others:
            write(paths[0], guide=guide, **other)
            assert _earlier.measured_alike(run, paths[:1]) is None, other
        paths[1].write_text("{ torn")
        assert _earlier.measured_alike(run, paths[:2]) is None
        write(paths[2], guide=guide, batch=2, report=True)  # neither changes a figure
        assert _earlier.measured_alike(run, paths)["which"] == "6_3"

    c = run.config
    how = {k: c[k] for k in ("sampler", "guidance", "final")}
    how |= {"steps": 3, "seed": c.sample.seed, "images": 6, "weights": "0.9"}
    for name, changed in (("6", {"images": 2}), ("6_2", {"guidance": "cfg(w=3.0)"})):
        np.savez(run.workdir / "samples" / f"{name}.npz", method=json.dumps(how | changed))
        assert not _after_training.drawn(run, 6)
    np.savez(run.workdir / "samples/6_3.npz", method=json.dumps(how))
    assert _after_training.drawn(run, 6)


def test_a_run_that_begins_where_another_was_sets_its_results_aside(tmp_path, capsys):
    first, other = tiny.experiment(tmp_path), tiny.experiment(tmp_path, lr=0.5)
    figure = first.workdir / "eval/6.json"
    for run, there in ((first, False), (first, True), (other, False)):
        with prepare_workdir(run):
            assert figure.exists() is there
            figure.parent.mkdir(exist_ok=True)
            figure.write_text("first")
    assert (first.workdir / "earlier-1/eval/6.json").read_text() == "first"
    assert "(eval) were moved to" in capsys.readouterr().out
    (first.workdir / "checkpoints/6").mkdir(parents=True)
    with pytest.raises(WorkdirError, match="another configuration"), prepare_workdir(first):
        pass
    assert figure.exists()
    modes = (importlib.import_module(f"diffusion_jax.cli.modes.{m}") for m in
             registry.available("modes"))  # fmt: skip
    written = {name for mode in modes for name in getattr(mode, "WRITES", ())}
    assert {*RESULTS} == written - {"", "checkpoints", "statistics"}


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


def test_times_hold_compilation_and_all_starts(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def train(writer, *steps):
        for step, seconds in steps:
            clock[0] += seconds
            writer.scalars(step, {"train/loss": 1.0})

    first = Writer(tmp_path)
    first.go_on(0)
    train(first, (5, 30.0), (10, 2.0))  # compilation is part of the first
    first.flush()
    assert read_curves(tmp_path / "metrics.jsonl").seconds == 32.0
    first.go_on(5)  # a rollback: the steps that were lost took their time
    train(first, (10, 3.0))
    first.close()
    clock[0] += 1000.0  # nothing runs
    again = Writer(tmp_path)
    again.go_on(10)
    train(again, (15, 40.0), (20, 2.0))  # longer than all of the first start
    again.close()
    found = read_curves(tmp_path / "metrics.jsonl")
    np.testing.assert_allclose(found.get("train/loss").seconds, [30.0, 35.0, 75.0, 77.0])
    assert found.seconds == 77.0
