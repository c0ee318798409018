"""Classification accuracy score: its tests, its arms, and that it goes on where it was."""

import argparse
import json

import numpy as np
import pytest
import tiny
from scipy import stats

from benchmarks import _runs, _synthetic_table, synthetic
from diffusion_jax import registry
from diffusion_jax.errors import ConfigError, UserError

RNG = np.random.default_rng


@pytest.mark.parametrize(("a", "b"), [(0.9, 0.9), (0.95, 0.7), (0.0, 1.0)])
def test_mcnemar_is_a_sign_test_of_the_images_on_which_they_differ(a, b):
    rng = RNG(0)
    one, other = rng.random(60) < a, rng.random(60) < b
    only = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    expected = stats.binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
    assert _synthetic_table.mcnemar(one, other) == pytest.approx(expected)
    assert _synthetic_table.mcnemar(one, one) == 1.0


def test_two_arms_that_are_alike_differ_by_chance_alone():
    rng, p = RNG(0), []
    for _ in range(200):
        real, ours = ({s: rng.random(80) < 0.9 for s in range(3)} for _ in range(2))
        p.append(float(_synthetic_table.compared(real, ours)["McNemar p"]))
    assert np.mean(np.array(p) < 0.05) <= 0.06  # exact: at most that often
    same = _synthetic_table.compared(real, real)
    assert same["minus real"].startswith("0.0000 +- 0.0000") and same["McNemar p"] == "1"
    assert "McNemar p" not in _synthetic_table.compared(real, real, same=True)


def test_arms_hold_as_many_real_and_synthetic_images_as_they_say(tmp_path):
    own = tiny.experiment(tmp_path).config.data
    path = tmp_path / "s.npz"
    np.savez(path, image=np.full((224, 4, 4, 1), 4, np.uint8), label=np.arange(224) % 3)
    for arm in (synthetic.REAL, *synthetic.ARMS):
        text = synthetic.data_of(own, arm, path, 56, 56)
        train = registry.build("data", text).split("train")
        fake = int((train.images == 4).all(axis=(1, 2, 3)).sum())
        expected = {"real": (56, 0), "x1": (56, 56), "x4": (224, 224), "x1 new": (56, 56),
                    "25% real": (56, 42), "50% real": (56, 28), "75% real": (56, 14),
                    "real + x1": (112, 56), "real + x3": (224, 168)}  # fmt: skip
        assert (len(train), fake) == expected[arm.name]


def test_killed_it_goes_on_and_a_table_says_what_was_found(tmp_path, monkeypatch):
    run, made = tiny.experiment(tmp_path), []
    args = argparse.Namespace(
        out=tmp_path / "out", guidance=["cfg(w=1.0)", "cfg(w=3.0)"], arms=["x1", "real + x1"],
        seeds=2, sample_seeds=1, images=12, updates=7, work="digits", sampler="", steps=0, batch=0,
    )  # fmt: skip
    args.out.mkdir()
    path = tmp_path / "s.npz"

    def draw(run, guidance, seed, labels, folder):
        np.testing.assert_array_equal(labels, run.source.split("train").labels[:12])
        return {False: path, True: path}

    monkeypatch.setattr(synthetic, "draw", draw)

    def classify(config, folder):
        made.append(str(folder))
        if len(made) == 3:
            raise KeyboardInterrupt
        if "cfg_w=3" in str(folder) or "cfg(w=3.0)" in str(folder):
            raise ConfigError("no such samples")
        right = {"valid": np.arange(20) < 15, "test": np.arange(30) < 20 + config.seed}
        folder.mkdir(parents=True)
        np.savez(folder / "answers.npz", **right)
        assert config.task.endswith("clean=True)") and config.steps == 7
        return right

    monkeypatch.setattr(synthetic, "classify", classify)
    with pytest.raises(KeyboardInterrupt):
        synthetic.fill(args, run)
    assert len(synthetic.read(args.out)) == 2
    with (args.out / "rows.jsonl").open("a") as f:
        f.write('{"arm": "x1", "gui')  # killed while it wrote
    kept = {json.loads(x)["npz"]: 0 for x in (args.out / "rows.jsonl").read_text().split("\n")
            if x.endswith("}")}  # fmt: skip
    done = lambda config, folder: np.load(folder / "answers.npz") if (
        str(folder / "answers.npz") in kept) else classify(config, folder)  # fmt: skip
    monkeypatch.setattr(synthetic, "classify", done)
    synthetic.fill(args, run)
    rows = synthetic.read(args.out)
    assert len(rows) == 2 * 3  # the real arm and two of one weight; the other weight failed
    text = _synthetic_table.show(rows)
    assert text.count("| real |") == 1 and "| real + x1 | cfg(w=1.0) | 2 | 0.7500 | yes |" in text
    assert "0.6833 +- 0.0167" in text


def test_what_was_made_with_other_settings_is_not_taken(tmp_path):
    run = tiny.experiment(tmp_path)
    run.workdir.mkdir()
    task = "distill(teacher='runs/a', method=segments(steps=4))"
    run.config.task = task
    fields = ("task", "seed", "steps")
    _runs.check_same(run.workdir, run.config, fields)  # nothing is there
    settled = tiny.experiment(tmp_path).config
    settled.task = task[:-1] + ", edges=array(values=(1.0, 0.0)), sha256='ab')"
    (run.workdir / "config.json").write_text(settled.to_json())
    _runs.check_same(run.workdir, run.config, fields)  # what a run adds by itself is no other
    for name, value in (("steps", 99), ("task", task.replace("runs/a", "runs/b"))):
        other = tiny.experiment(tmp_path, **{"task": task, name: value}).config
        with pytest.raises(ConfigError, match=rf"has a run with {name}=.*; name another --out"):
            _runs.check_same(run.workdir, other, fields)
    settled.task = (
        "guide(classifier(width=32, groups=8), clean=True)"  # in a plug-in of its own too
    )
    (run.workdir / "config.json").write_text(settled.to_json())
    run.config.task = "guide(classifier(width=32), clean=True)"
    _runs.check_same(run.workdir, run.config, fields)
    run.config.task = "guide(classifier(width=16), clean=True)"
    with pytest.raises(ConfigError, match="name another --out"):
        _runs.check_same(run.workdir, run.config, fields)
    path = tmp_path / "drawn.npz"
    np.savez(path, method=json.dumps({"guidance": "none()", "batch": 9}))
    synthetic._check_drawn(path, {"guidance": "none()"})
    with pytest.raises(ConfigError, match="drawn with steps=None; name another --out"):
        synthetic._check_drawn(path, {"guidance": "none()", "steps": 5})


def test_copies_are_left_out_of_what_is_new_and_samples_are_drawn_once(tmp_path, monkeypatch):
    run, asked = tiny.experiment(tmp_path), []
    vars(run)["loaded"] = ({}, {"checkpoint": "runs/x/4"})
    train = run.source.split("train")
    own = np.concatenate(
        [train.images[:6], 4 * np.indices((6, 4, 4, 1)).sum(0).astype(np.uint8) % 2]
    )

    def sample(n, labels, **how):
        asked.append((labels, how))
        return own[:n]

    monkeypatch.setattr(type(run), "sample", lambda self, *a, **k: sample(*a, **k), raising=False)
    labels = np.arange(12) % 3
    for _ in range(2):
        sets = synthetic.draw(run, "cfg(w=2.0)", 3, labels, tmp_path / "s", steps=4, batch=6)
    assert [a[0] for a in asked] == [tuple(labels.tolist())]
    assert asked[0][1] == {"seed": 3, "guidance": "cfg(w=2.0)", "steps": 4, "batch": 6}
    with np.load(sets[False]) as whole, np.load(sets[True]) as new:
        np.testing.assert_array_equal(whole["image"], own)
        np.testing.assert_array_equal(new["image"], own[6:])
        np.testing.assert_array_equal(new["label"], labels[6:])
    with pytest.raises(ConfigError, match="was drawn with steps=4"):
        synthetic.draw(run, "cfg(w=2.0)", 3, labels, tmp_path / "s", steps=5)


@pytest.mark.slow
def test_a_classifier_is_trained_once_and_asked_of_real_images(tmp_path):
    config = synthetic.config_for("digits", "half(digits(), size=200)", 0, 60, "")
    answers = synthetic.classify(config, tmp_path / "arm")
    assert {k: len(v) for k, v in answers.items()} == {"valid": 100, "test": 297}
    assert 0.3 < answers["test"].mean() <= 1.0  # by chance a tenth
    before = (tmp_path / "arm" / "answers.npz").read_bytes()
    again = synthetic.classify(config, tmp_path / "arm")
    np.testing.assert_array_equal(again["test"], answers["test"])
    assert (tmp_path / "arm" / "answers.npz").read_bytes() == before


def test_runs_and_arms_that_cannot_be_are_refused(tmp_path):
    run = tiny.experiment(tmp_path, conditional=False)
    with pytest.raises(UserError, match="no arm 'x9'; there are x1, x4, x1 new, 25% real"):
        synthetic.check(run, ["x9"])
    with pytest.raises(UserError, match="unconditional: samples would have no labels"):
        synthetic.check(run, ["x1"])
