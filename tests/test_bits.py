"""Bits at equal processor time: the benchmark's arithmetic, and that it goes on where it was."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import tiny

from benchmarks import _common, _paired, _runs, bits
from benchmarks.tables import WORK
from benchmarks.variants import Part, Table, Variant
from diffusion_jax import saved_config
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.storage import write_json

TABLE = Table(
    {
        "plain": Variant({"network": "mlp(width=8, depth=1, embed=8)"}),
        "rates": Variant({"network": "mlp(width=8, depth=1, embed=8)"}, lrs=(1e-2, 1e-5)),
        "raw": Variant(weights="params"),
    }
)


def totals(shift, seed=0):
    return np.random.default_rng(seed).normal(3.0, 1.0, 6) + shift


def test_steps_are_what_the_budget_has_room_for():
    assert bits.steps_for(150.0, 0.1) == 1500
    assert bits.steps_for(1.0, 40.0) == 1


def test_a_constant_shift_is_a_difference_without_error():
    first = {s: totals(0.0, s) for s in (0, 1)}
    other = {s: totals(1.0 + s, s) for s in (0, 1, 2)}
    row = _paired.compared(first, other)
    assert row["minus the first"].startswith("1.5000 +- 0.0000")  # of the seeds that both have
    assert row["of it over seeds"] == f"{np.sqrt(0.5):.4f}"
    assert "minus the first" not in _paired.compared(first, first)


def test_the_held_out_images_choose_a_learning_rate():
    row = {"variant": "a", "seed": 0, "tried": True}
    rows = [{**row, "lr": lr, "held_out": h} for lr, h in ((1.0, 3.0), (2.0, 2.5), (3.0, 2.8))]
    rows.append({**row, "lr": 9.0, "held_out": 0.0, "tried": False})
    assert _paired.chosen(rows) == {"a": 2.0}


@pytest.mark.parametrize("work", WORK)
def test_every_row_is_a_model_that_can_be_built(work, tmp_path):
    image = np.zeros((2, 28, 28, 1), np.uint8)
    path, label = tmp_path / "images.npz", np.zeros(2, int)
    np.savez(path, train_image=image, test_image=image, train_label=label, test_label=label)
    start = bits.start_of(work, "")
    start.data = f"npz(path={str(path)!r}, num_classes=10)"
    for table in WORK[work].tables.values():
        for variant in table.rows.values():
            assert sum(part.share for part in variant.runs) == 1.0
            for part in variant.runs:
                c = bits.config_of(start, part, 10)
                assert Experiment(c, tmp_path).model.network


def test_torn_lines_are_no_rows(tmp_path):
    log = tmp_path / "rows.jsonl"
    assert _common.read_lines(log) == []
    log.write_text('{"a": 1}\n\n{"a": 2\n{"a": 3}{"a": 4}\n5\n{"a": 6}\n{"a')
    assert [row["a"] for row in _common.read_lines(log)] == [1, 6]


@pytest.mark.slow
def test_a_finished_table_is_not_trained_again(tmp_path, monkeypatch):
    speed = {"core_s_a_step": 0.5, "compile_core_s": 1.0, "weights": 9}
    monkeypatch.setattr(_runs, "speeds", lambda cases: dict.fromkeys(cases, speed))
    made, start = [], tiny.config(tmp_path)

    def evaluated(experiment):
        folder = experiment.workdir / "eval"
        write_json(folder.parent / "config.json", saved_config.to_dict(experiment.config))
        figures = ("bits_per_dim", "standard_error", "monte_carlo_se")
        write_json(folder / "4.json", {"result": dict.fromkeys(figures, 1.0)})
        np.savez(folder / "4.npz", bits_per_dim_total=totals(0.0))

    def trained(experiment):
        made.append(experiment.workdir.name)
        if len(made) == 2:
            raise KeyboardInterrupt  # killed in the second of all runs
        assert experiment.config.steps == 4
        evaluated(experiment)
        cost = [{"step": n, "seconds": 2.0 * n, "train/core_seconds": 3.0 + n} for n in (2, 4)]
        lines = [*cost, {"step": 4, "valid/bits_per_dim": experiment.config.lr}]
        path = experiment.workdir / "metrics.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    monkeypatch.setattr(_runs.train_mode, "run", trained)
    monkeypatch.setattr(_runs.eval_mode, "run", evaluated)
    monkeypatch.setattr(_runs.jax, "clear_caches", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        bits.fill("t", TABLE, start, [0, 1], 2.0, tmp_path)
    assert len(bits.read(tmp_path / "rows.jsonl", "t")) == 1
    with (tmp_path / "rows.jsonl").open("a") as f:
        f.write('{"table": "t", "varia')  # killed while it wrote
    bits.fill("t", TABLE, start, [0, 1], 2.0, tmp_path)
    assert made[1:] == ["seed0-lr0.01", "seed0-lr0.01", "seed0-lr1e-05", "seed1", "seed1"]
    rows, text = bits.read(tmp_path / "rows.jsonl", "t"), (tmp_path / "rows.jsonl").read_text()
    assert [r["lr"] for r in rows if r["variant"] == "rates"] == [1e-2, 1e-5, 1e-5]
    assert all((r["core_s"], r["core_s_of_steps"], r["images_per_s"]) == (7, 4, 8) for r in rows)
    bits.fill("t", TABLE, start, [0, 1], 2.0, tmp_path)
    assert len(made) == 6
    assert (tmp_path / "rows.jsonl").read_text() == text
    line = next(x for x in _paired.show(rows).splitlines() if x.startswith("| raw |"))
    assert line.count("+-") == 2
    assert "0.0000 +- 0.0000" in line
    with pytest.raises(ConfigError, match="2 core-seconds; name another --out"):
        bits.fill("t", TABLE, start, [0], 3.0, tmp_path)


def test_averages_are_of_the_first_row_at_the_rate_that_it_chose(tmp_path, monkeypatch):
    speed = {"core_s_a_step": 0.5, "compile_core_s": 1.0, "weights": 9}
    measured = []

    def outcome(runs, *_):
        return {"bits_per_dim": 1.0, "held_out": abs(rates[runs[-1]] - 0.02), "npz": ""}

    rates = {}
    monkeypatch.setattr(_runs, "speeds", lambda cases: dict.fromkeys(cases, speed))
    monkeypatch.setattr(_runs, "train", lambda c, folder: rates.update({folder: c.lr}))
    monkeypatch.setattr(_runs, "measure", lambda run, *_: measured.append(run))
    monkeypatch.setattr(_runs, "outcome", outcome)
    table = Table({"plain": Variant(), "raw": Variant(weights="params")}).only(None, [0.01, 0.02])
    bits.fill("t", table, tiny.config(tmp_path), [0, 1], 2.0, tmp_path)
    plain = tmp_path / "t" / "plain"
    assert measured == [plain / "seed0-lr0.02", plain / "seed1"]
    rows = bits.read(tmp_path / "rows.jsonl", "t")
    assert [r["lr"] for r in rows if r["variant"] == "raw"] == [0.02, 0.02]


def test_the_runs_of_a_row_share_its_budget(tmp_path, monkeypatch):
    timed, trained, joined = [], [], []
    speed = {"core_s_a_step": 0.5, "compile_core_s": 1.0, "weights": 9}

    def speeds(cases):
        timed.extend(cases)
        return dict.fromkeys(cases, speed)

    figures = {"bits_per_dim": 1.0, "held_out": 1.0, "core_s": 1.0, "npz": ""}
    monkeypatch.setattr(_runs, "speeds", speeds)
    monkeypatch.setattr(_runs, "train", lambda c, folder: trained.append((c.network, c.steps)))
    monkeypatch.setattr(_runs, "measure_together", lambda runs, *_: joined.append(runs))
    monkeypatch.setattr(_runs, "outcome", lambda *_: figures)
    low, high = (
        Part(s, settings={"network": f"mlp(width={w})"}) for s, w in ((0.25, 8), (0.75, 4))
    )
    student = Part(0.5, settings={"network": "mlp(width=8)", "task": "of {0}"})
    rows = {"plain": Variant(), "both": Variant(parts=(low, high), together=True)}
    rows["in turn"] = Variant(parts=(replace(low, share=0.5), student))
    bits.fill("t", Table(rows), tiny.config(tmp_path), [3], 8.0, tmp_path)
    assert timed == ["plain, 0", "both, 0", "both, 1", "in turn, 1"]  # alike: once
    assert trained[1:] == [("mlp(width=8)", 4), ("mlp(width=4)", 12), *[("mlp(width=8)", 8)] * 2]
    place = tmp_path / "t" / "both" / "seed3"
    assert joined == [[place / "0", place / "1"]]
    both, turn = bits.read(tmp_path / "rows.jsonl", "t")[1:]
    assert (both["weights"], turn["weights"], both["steps"], both["compile_core_s"]) == (
        18,
        9,
        16,
        2,
    )
    c = bits.config_of(tiny.config(tmp_path), student, 8, [place])
    assert c.task == f"of {place}"


def test_steps_are_timed_in_turn(tmp_path, monkeypatch):
    clock, order = [0.0], []

    def step_of(experiment, recipe, state):
        def once():
            order.append(experiment)
            clock[0] += {"slow": 2.0, "fast": 0.5}[experiment]

        clock[0] += 7.0
        return None, None, 0.0, once

    monkeypatch.setattr(_runs.cores, "used", lambda: clock[0])
    monkeypatch.setattr(_common, "weights", lambda experiment: {"w": np.zeros((2, 3))})
    monkeypatch.setattr(_common, "fresh_state", lambda experiment, params: (None, None))
    monkeypatch.setattr(_common, "step_of", step_of)
    found = _runs.speeds({"a": "slow", "b": "fast"})
    assert found["a"] == {"compile_core_s": 7.0, "weights": 6, "core_s_a_step": 2.0}
    assert found["b"]["core_s_a_step"] == 0.5
    assert len(list(itertools.groupby(order))) == 6  # three rounds of both
