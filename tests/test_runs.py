"""Whole runs in this process: resume, damage, NaN, refusals. Nothing may be lost."""

import json
import logging
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from checkpoint_copies import assert_identical, copied, weights

from diffusion_jax import saved_config
from diffusion_jax.cli.modes import eval as eval_mode, export, sample as sample_mode, train
from diffusion_jax.errors import (
    CheckpointError,
    ConfigError,
    NonFiniteError,
    WorkdirError,
)
from diffusion_jax.experiment import exported, fine_tuning
from diffusion_jax.runtime.sharding import replicated
from diffusion_jax.training import restore
from diffusion_jax.training.state import with_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def done(folder):
    """A finished run, not to be changed."""
    experiment = tiny.experiment(folder, "done")
    train.run(experiment)
    return experiment


@pytest.fixture
def copy(done, tmp_path):
    """A copy of the finished run that a test may damage."""
    return copied(done, tmp_path)


def test_a_run_leaves_everything_a_reader_expects(done):
    names = {p.name for p in done.workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "params.txt", "checkpoints", "samples", "eval"} <= names
    assert any(n.startswith("events.out.tfevents") for n in names)
    rows = [json.loads(r) for r in (done.workdir / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "train/loss" in r] == [2, 4, 6]
    assert [r["step"] for r in rows if "valid/bits_per_dim" in r] == [4, 6]
    report = json.loads((done.workdir / "eval" / "6.json").read_text())
    assert report["result"]["images"] == 13
    with np.load(done.workdir / "eval" / "6.npz") as records:
        assert records["bits_per_dim_total"].shape == (13,)
        assert records["bits_per_dim_total"].mean() == pytest.approx(
            report["result"]["bits_per_dim"]
        )
    with np.load(done.workdir / "samples" / "6.npz") as samples:
        assert samples["image"].shape == (6, 4, 4, 1) and samples["image"].max() < 5
        np.testing.assert_array_equal(samples["label"], [0, 1, 2, 0, 1, 2])


def test_tensorboard_reads_the_events(done):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    events = accumulator.EventAccumulator(str(done.workdir)).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [2, 4, 6]
    assert [e.step for e in events.Scalars("test/bits_per_dim")] == [6]
    assert [e.step for e in events.Images("samples")] == [6]


def test_train_2n_equals_train_n_and_resume_n(folder, done):
    # Of a constant learning rate: the length of the first run must not matter.
    train.run(tiny.experiment(folder, "resumed", steps=2))
    resumed = tiny.experiment(folder, "resumed", steps=6)
    first = restore.read_meta(resumed.workdir / "checkpoints/2")["core_seconds"]
    train.run(resumed)
    lines = map(json.loads, (resumed.workdir / "metrics.jsonl").read_text().splitlines())
    used = [row["train/core_seconds"] for row in lines if "train/core_seconds" in row]
    assert 0 < used[0] <= first < used[1] <= used[2]  # of both starts together
    for name in ("params", "0.9", "0.99"):
        assert_identical(weights(resumed, 6, name), weights(done, 6, name))


def test_a_run_is_exported_with_what_it_has_cost(copy, tmp_path):
    experiment = copy()
    experiment.config.export.update(output=str(tmp_path / "small"), measure=False, licence="CC0")
    export.run(experiment)
    card = exported.card(tmp_path / "small")
    meta = restore.read_meta(experiment.workdir / "checkpoints/6")
    assert card["core_seconds"] == meta["core_seconds"] > 0
    assert (card["weights"], card["step"], card["licence"]) == ("0.9", 6, "CC0")


def test_a_finished_run_says_so_and_changes_nothing(copy, capsys):
    experiment = copy()
    before = {p: p.stat().st_mtime_ns for p in (experiment.workdir / "checkpoints").rglob("*")}
    train.run(experiment)
    assert "finished" in capsys.readouterr().out
    assert before == {
        p: p.stat().st_mtime_ns for p in (experiment.workdir / "checkpoints").rglob("*")
    }


# Reads that were in flight when orbax gave up complain while they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage", ["truncate", *(pytest.param(d, marks=pytest.mark.slow) for d in ("empty", "remove"))]
)
def test_a_damaged_newest_checkpoint_falls_back_loudly(copy, done, damage, caplog):
    experiment = copy()
    newest = experiment.workdir / "checkpoints" / "6"
    if damage == "empty":
        shutil.rmtree(newest)
        newest.mkdir()
    else:
        files = [p for p in newest.rglob("*") if p.is_file() and p.parent.name == "d"]
        assert files
        for p in files:
            p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]) if damage == "truncate" else (
                p.unlink()
            )
    with caplog.at_level(logging.ERROR):
        train.run(experiment)
    assert "checkpoints/6 is damaged" in caplog.text.replace("\\", "/")
    assert (experiment.workdir / "checkpoints" / "damaged-6").is_dir()
    assert_identical(weights(experiment, 6), weights(done, 6))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_evaluation_falls_back_too(copy, caplog):
    experiment = copy()
    shutil.rmtree(experiment.workdir / "checkpoints" / "6" / "ema" / "d")
    shutil.rmtree(experiment.workdir / "checkpoints" / "6" / "ema" / "ocdbt.process_0")
    with caplog.at_level(logging.ERROR):
        eval_mode.run(experiment)
    assert "damaged" in caplog.text
    assert (experiment.workdir / "eval" / "4.json").exists()


def test_another_configuration_is_refused_and_named(copy):
    experiment = copy(lr=5e-3, batch=32)
    with pytest.raises(WorkdirError, match=r"batch: 16 -> 32; lr: 0.001 -> 0.005"):
        train.run(experiment)
    assert json.loads((experiment.workdir / "config.json").read_text())["lr"] == 1e-3


def test_what_may_change_may_change(copy):
    changed = copy(log_every=3, guidance="none()")
    train.run(changed)
    assert json.loads((changed.workdir / "config.json").read_text())["log_every"] == 3


def test_another_architecture_is_named(copy, done):
    experiment = copy(network="mlp(width=16, depth=2, embed=8)")
    with pytest.raises(CheckpointError, match=r"network: 'mlp.*depth=1.* -> 'mlp.*depth=2"):
        eval_mode.run(experiment)
    step = done.workdir / "checkpoints" / "6"
    with pytest.raises(CheckpointError, match=r"another architecture: network/cond_1/"):
        restore.read_weights(step, experiment.shapes(), "0.9", replicated(done.mesh))


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction": "v"},
        {"gamma_min": -4.0},
        {"schedule": "linear()"},
        {"network": "mlp(width=16, depth=1, embed=8, dropout=0.1)"},
        {"decoder": "gaussian()"},
        {"augment": "hidden(flip())"},
        {"class_dropout": 0.0, "guidance": "none()"},
    ],
    ids=str,
)
def test_settings_that_change_what_weights_mean_are_refused(copy, changes):
    name = next(iter(changes))
    with pytest.raises(CheckpointError, match=f"its weights depend .{name}.* -> "):
        copy(**changes).weights()


def test_data_of_other_levels_are_refused_and_settings_of_arithmetic_are_not(copy, done):
    other = done.config.data.replace("levels=5", "levels=9")
    with pytest.raises(CheckpointError, match="levels of the data: 5 -> 9"):
        copy(data=other).weights()
    free = {"network": "mlp(embed=8, width=16, depth=1)", "dtype": "bfloat16",
            "sampler": "ddim()", "lr": 5.0, "data": done.config.data + " "}  # fmt: skip
    assert copy(**free).weights()[1]["step"] == 6


def test_missing_checkpoints_are_named(folder):
    with pytest.raises(CheckpointError, match=r"there is no folder .*never; train first"):
        eval_mode.run(tiny.experiment(folder, "never"))


def test_a_missing_average_lists_those_there_are(copy):
    experiment = copy()
    experiment.config.eval.weights = "0.5"
    with pytest.raises(CheckpointError, match=r"no average '0.5'; it has 0.9, 0.99"):
        eval_mode.run(experiment)


def test_evaluating_raw_weights_and_the_best_checkpoint(copy):
    experiment = copy()
    experiment.config.eval.weights, experiment.config.eval.checkpoint = "params", "best"
    eval_mode.run(experiment)
    reports = sorted((experiment.workdir / "eval").glob("*.json"))
    found = [json.loads(p.read_text())["model"]["weights"] for p in reports]
    assert "params" in found


@pytest.mark.slow
def test_what_the_message_after_nan_says_works(copy, folder):
    """A loss above `spike` stands for NaN: the checkpoint before it is sound."""
    with pytest.raises(NonFiniteError, match=r"last good checkpoint, step 6, is kept") as stopped:
        train.run(copy(steps=8, spike=1e-6, log_every=1))
    named = dict(re.findall(r"--config\.(\w+)=(\S+)", str(stopped.value)))
    old = saved_config.read(Path(named["init"]) / "config.json")
    rollback = tiny.config(folder, steps=8, spike=1e-6, log_every=1, on_nan=named["on_nan"])
    assert rollback.on_nan == "rollback" and not saved_config.differences(old, rollback)
    gentler = tiny.experiment(
        folder, "gentle", init=named["init"], lr=float(named["lr"]), clip=float(named["clip"]),
        steps=1, eval_every=0,
    )  # fmt: skip
    assert gentler.config.lr < rollback.lr
    gentler.config.eval.timesteps, gentler.config.sample.num = (), 0
    train.run(gentler)
    assert (gentler.workdir / "checkpoints" / "1").is_dir()


def test_a_run_starts_from_the_weights_of_another(folder, done, capsys):
    """Those that fit, in the weights and in all averages; what does not is named."""
    other = tiny.experiment(folder, "tuned", init=str(done.workdir), conditional=False,
                            prediction="v", guidance="none()")  # fmt: skip
    task = other.task.open(other, train.HANDED)
    fresh = jax.jit(task.initial)()
    found = fine_tuning.read(other, fresh.params)
    said = capsys.readouterr().out
    assert re.search(r"\d+ arrays are skipped, not in this model: network/\S*", said)
    assert "differs from that run: prediction: 'eps' -> 'v'" in said
    state = with_arrays(fresh, found)
    weights = done.weights()[0]
    trained = restore.shapes(weights)
    taken = restore.shapes(fresh.params).items() & trained.items()
    assert {*found} == {name for name, _ in taken} and len(found) < len(trained)
    average = dict(zip(trained, jax.tree.leaves(weights), strict=True))
    for tree in (state.params, *state.ema.values()):
        now = dict(zip(restore.shapes(tree), jax.tree.leaves(tree), strict=True))
        for name, value in found.items():
            np.testing.assert_array_equal(now[name], value)
            np.testing.assert_array_equal(now[name], average[name])
    assert int(state.step) == 0


def test_what_a_run_cannot_start_from(folder, done):
    for init, message in (
        ("absent", "init='absent': there is no folder"),
        (folder / "self", "directory itself"),
    ):
        with pytest.raises((CheckpointError, ConfigError), match=message):
            train.run(tiny.experiment(folder, "self", init=str(init)))
    assert not (folder / "self").exists()
    wide = tiny.experiment(folder, "wide", init=str(done.workdir), network="unet(width=8)")
    with pytest.raises(ConfigError, match="no weights of that run fit network=unet"):
        fine_tuning.read(wide, {"network": {"x": jax.ShapeDtypeStruct((1,), np.float32)}})


def test_sampling_refusals(copy):
    experiment = copy()
    experiment.config.sample.labels = (1, 7)
    with pytest.raises(ConfigError, match=r"7 is out of range; there are classes 0 .. 2"):
        sample_mode.run(experiment)


def test_sampling_asks_for_the_classes_it_is_told(copy):
    experiment = copy()
    experiment.config.sample.labels = (2,)
    sample_mode.run(experiment)
    with np.load(experiment.workdir / "samples" / "6_2.npz") as found:
        np.testing.assert_array_equal(found["label"], [2] * 6)
