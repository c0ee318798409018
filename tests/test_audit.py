"""Mode audit on models whose memory is known: all of it, and none."""

import dataclasses
import json
import math

import empirical
import jax
import numpy as np
import pytest
import tiny

from diffusion_jax.cli.modes import _audit_table, audit as mode
from diffusion_jax.cli.report import collect, sections_audit
from diffusion_jax.data.description import describe
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.experiment import assembly
from diffusion_jax.experiment.measures import run_agreement

COUNT, SIDE = 120, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("audit")
    arrays = {}
    for part, count in (("train", COUNT), ("test", 2 * COUNT)):
        label = rng.integers(0, 3, count)
        arrays[f"{part}_image"] = rng.integers(0, 5, (count, SIDE, SIDE, 1), dtype=np.uint8)
        arrays[f"{part}_label"] = label
    np.savez(folder / "images.npz", **arrays)
    return folder


def tiny_data(folder):
    return f"npz(path={str(folder / 'images.npz')!r}, levels=5, num_classes=3, holdout=0)"


def experiment(folder, name="run", **changes):
    """A run whose model has learned its training images by heart."""
    found = tiny.experiment(folder, name, **{
        "data": tiny_data(folder),
        "conditional": False, "guidance": "none()", "sampler": "ddim()",
        "eval": {"draws": 4, "batch": 480}, "sample": {"num": 24, "batch": 24, "steps": 40},
        **changes,
    })  # fmt: skip
    vars(found)["model"] = empirical.model(5)
    record = {"step": 7, "weights": "params", "checkpoint": str(folder / "nowhere")}
    vars(found)["loaded"] = (empirical.weights(found.source.split("train").images, 5), record)
    return found


@pytest.fixture(scope="module")
def learned_by_heart(folder):
    found = experiment(folder)
    mode.run(found)
    (path,) = (found.workdir / "audit").glob("*.json")
    return found, json.loads(path.read_text()), path


def test_a_model_that_knows_its_images_by_heart_is_found_out(learned_by_heart):
    _, report, _ = learned_by_heart
    r = report["result"]
    assert r["membership"]["auroc"] == 1.0 and r["membership"]["best_band"]["auroc"] == 1.0
    assert r["membership"]["true_positive_rate"] == 1.0
    # Each image costs what it takes to name one of them: log2(n) bits.
    truth = math.log2(COUNT) / SIDE**2
    assert r["gap"]["train"]["bits_per_dim"] == pytest.approx(truth, abs=0.02)
    assert r["gap"]["z"] > 10.0
    assert r["copies"]["copies"] == r["copies"]["singled_out"] == 24
    assert r["copies"]["held_out_copies"] == 0
    said = _audit_table.table(report)
    assert "found: training examples cost fewer bits; bits reveal" in said
    assert "copies 24 of 24" in said


def test_the_gap_of_bands_adds_up_and_files_hold_every_image(learned_by_heart):
    found, report, path = learned_by_heart
    gap = report["result"]["gap"]
    assert len(gap["bands"]) == 2  # strata; more bands were asked for
    edges = [gap["bands"][0]["from"], *(b["to"] for b in gap["bands"])]
    assert edges == pytest.approx([-9.0, -2.0, 5.0], abs=1e-4)
    with np.load(path.with_suffix(".npz")) as arrays:
        bits = arrays["train_bits_per_dim"], arrays["held_out_bits_per_dim"]
        assert [len(b) for b in bits] == [COUNT, 2 * COUNT]
        assert gap["bits_per_dim"] == pytest.approx(bits[1].mean() - bits[0].mean())
        nearest = arrays["sample_nearest"]
    assert np.all((nearest >= 0) & (nearest < COUNT)) and len(np.unique(nearest)) > 5
    before = path.read_bytes()
    mode.run(found)  # again: the same figures, nothing overwritten
    assert [p.name for p in path.parent.iterdir() if p.suffix == ".json"] == [path.name]
    assert path.read_bytes() == before
    shown = sections_audit.audit(collect.read(found.workdir))
    assert "copies" in shown.body and "24 of 24" in shown.body
    assert "found: training examples cost fewer bits" in shown.body


def test_two_parts_of_the_test_set_are_not_told_apart(folder):
    """The model knows neither."""
    found = experiment(folder)
    whole = found.source.split("test")
    parts = [dataclasses.replace(whole, images=whole.images[i::2], labels=whole.labels[i::2])
             for i in range(2)]  # fmt: skip
    params, record = found.loaded
    report = mode.audit(found, params, record, None, *parts)
    m = report["result"]["membership"]
    for figure in (m, m["best_band"]):
        assert abs(figure["auroc"] - 0.5) < 3.0 * figure["null_standard_error"]
    assert abs(report["result"]["gap"]["z"]) < 3.0
    said = _audit_table.table(report)
    assert "no leak found by these tests, which does not prove" in said
    assert "left out: copies: no samples" in said


def test_it_promises_nothing(learned_by_heart):
    _, report, path = learned_by_heart
    text = path.read_text() + _audit_table.table(report)
    assert "private" not in text.lower() and "fair" not in text.lower()


def test_samples_of_an_unknown_model_are_searched_for_copies_alone(folder, tmp_path):
    train = tiny.experiment(folder).source  # 3 classes, holdout 8
    images = np.concatenate([train.split("train").images[:6], train.split("test").images[:6]])
    np.savez(tmp_path / "mine.npz", image=images, label=np.arange(12) % 3)
    found = tiny.experiment(folder, "nothing", quality={"samples": str(tmp_path / "mine.npz")},
                            data=experiment(folder).config.data)  # fmt: skip
    mode.run(found)
    (path,) = (found.workdir / "audit").glob("mine.json")
    report = json.loads(path.read_text())
    assert report["result"]["copies"]["copies"] == 6 and "gap" not in report["result"]
    assert (
        report["left_out"][0]
        == "bits: there are only samples, and no model with a likelihood of images"
    )
    assert any("no judge" in line for line in report["left_out"])


def test_classes_that_cost_more_are_named(folder):
    found = experiment(folder)
    source = found.source
    whole = source.split("test")
    # The model knows all images of class 0, and none of the others.
    params = empirical.weights(whole.images[whole.labels == 0], 5, count=COUNT)
    record = found.loaded[1]
    report = mode.audit(found, params, record, None, source.split("train"), whole)
    bits = report["result"]["bits_of_classes"]
    assert [r["class"] for r in bits["classes"]] == [0, 1, 2]
    assert bits["classes"][0]["bits_per_dim"] < 1.0 < bits["worst"]["bits_per_dim"]
    assert bits["worst"]["class"] in (1, 2)


def test_images_of_another_training_set_are_refused(folder, tmp_path):
    found = experiment(folder, augment="flip()")
    splits = [found.source.split(s) for s in ("train", "test")]
    params, record = found.loaded
    record = record | {"checkpoint": str(tmp_path / "7")}
    meta = {"step": 7, "data": describe(found.source, splits[0])}
    (tmp_path / "7" / "meta").mkdir(parents=True)
    (tmp_path / "7" / "meta" / "metadata").write_text(json.dumps(meta))
    report = mode.audit(found, params, record, None, *splits)
    assert report["notes"] == [
        "scores are of original images; in training they were augmented by flip()"
    ]
    for other in (
        dataclasses.replace(splits[0], images=splits[0].images[1:], labels=splits[0].labels[1:]),
        dataclasses.replace(splits[0], images=splits[0].images[::-1]),
    ):
        with pytest.raises(DataError, match=r"not the training set of this run .sha [0-9a-f]{12};"):
            mode.audit(found, params, record, None, other, splits[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval": {"split": "train"}}, "allowed: valid, test"),
        ({"eval": {"draws": 3}}, "must be even"),
        ({"eval": {"limit": 99}}, "99 examples of .*/train; the comparison needs at least 100"),
        ({"eval": {"split": "valid"}}, "valid is empty"),
        ({"quality": {"nearest": ""}}, "needs features to find copies by"),
        ({"quality": {"samples": "/nowhere.npz"}}, "there is no file /nowhere.npz"),
        ({"quality": {"classifier": "/nowhere"}}, "there is no folder /nowhere"),
        ({"task": "guide(classifier())"}, "holds a classifier"),
        ({"task": "gan()"}, "give its samples, --config.quality.samples=FILE"),
        ({"sample": {"num": -1}}, "at least 0"),
        ({"audit": {"against": "/nowhere"}}, "audit.against='/nowhere': there is no folder"),
    ],
)
def test_refused(folder, tmp_path, changes, message):
    found = experiment(folder, f"refused{len(list(tmp_path.iterdir()))}", **changes)
    with pytest.raises((ConfigError, DataError), match=message):
        mode.run(found)
    assert not found.workdir.exists()


def test_networks_that_judge_have_the_precision_that_the_record_claims(folder, monkeypatch):
    found = experiment(folder, "precise", eval={"draws": 4, "matmul_precision": "tensorfloat32"})
    seen = []

    def nearest(*_):
        seen.append(jax.config.jax_default_matmul_precision)
        raise DataError("enough")

    monkeypatch.setattr(mode.memorisation, "copies", nearest)
    with pytest.raises(DataError, match="enough"):
        mode.run(found)
    assert seen == ["tensorfloat32"]


def test_unlabelled_images_have_no_groups(folder):
    found = experiment(folder)
    splits = [dataclasses.replace(found.source.split(s), num_classes=0) for s in ("train", "test")]
    params, record = found.loaded
    report = mode.audit(found, params, record, None, *splits)
    assert "bits_of_classes" not in report["result"]
    assert any("has no labels" in line for line in report["left_out"])


def test_backbones_that_know_their_own_images_by_heart_do_not_agree(folder):
    runs = [experiment(folder, data=f"half({tiny_data(folder)}, part={p})") for p in (0, 1)]
    for run in runs:
        images = run.source.split("train").images
        vars(run)["loaded"] = (empirical.weights(images, 5, count=COUNT), run.loaded[1])
    found = run_agreement.measure(*runs)
    assert found["rms_to_train"] == [0.0, 0.0] and found["shared"] == 0
    assert abs(found["cosine"]) < 0.35 and found["rms"] > 0.2
    same = run_agreement.measure(runs[0], runs[0])
    assert same["cosine"] == pytest.approx(1.0) and same["rms"] == 0.0
    assert same["shared"] == COUNT // 2
    assert same["cosine_of_others"] < 0.5


def reader(folder, name, **changes):
    settings = {"data": "scenes(objects=1, size=60)", "conditional": False, "text": "words()",
                "network": "dit(width=8, depth=1, heads=2, patch=4)", "guidance": "none()",
                "sample": {"num": 4, "steps": 2}, **changes}  # fmt: skip
    found = tiny.experiment(folder, name, **settings)
    assembly.settle(found)
    vars(found)["loaded"] = ({}, {})
    return found


def test_both_runs_draw_the_same_prompts_whatever_each_was_set_to(tmp_path):
    mine = reader(tmp_path, "a")
    asked = run_agreement.texts.wanted(mine, 4)
    other = reader(tmp_path, "b", eval={"split": "valid"},
                   sample={"num": 3, "steps": 2, "captions": (asked[3],)})  # fmt: skip
    drawn = [run_agreement.texts.wanted(r, 4) for r in run_agreement.as_drawn(mine, other)]
    assert drawn[0] == drawn[1] == asked and len(set(asked)) > 1
    groups = run_agreement._groups(4, None, ("a", "b", "a", "b"))
    assert run_agreement._next_alike(groups).tolist() == [2, 3, 0, 1]


def test_both_runs_draw_the_best_of_as_many(tmp_path):
    mine, other = (tiny.experiment(tmp_path, n, guidance="none()") for n in ("a", "b"))
    mine.config.sample.best_of, mine.config.sample.judge = 3, "bits"
    vars(mine)["loaded"] = vars(other)["loaded"] = ({}, {})
    chosen = [(r.config.sample.best_of, r.config.sample.judge)
              for r in run_agreement.as_drawn(mine, other)]  # fmt: skip
    assert chosen == [(3, "bits")] * 2


def test_a_run_that_reads_otherwise_is_no_other_run(tmp_path, monkeypatch):
    mine = reader(tmp_path, "a")
    for text, said in (("bytes()", "bytes"), ("", "''")):
        other = reader(tmp_path, "b", text=text)
        monkeypatch.setattr(run_agreement.other_runs, "opened", lambda *_, to=other: to)
        with pytest.raises(ConfigError, match=rf"audit\.against='b' has text='?{said}.*words"):
            run_agreement.open_other(mine, "b")


@pytest.mark.parametrize("labels", [[0, 1, 2], [2, 0, 1, 2, 0], [1, 1, 1, 1], [0, 1, 0, 2, 1, 0]])
def test_samples_of_other_noise_are_others_of_the_same_class(labels):
    labels = np.asarray(labels)
    other = run_agreement._next_alike(labels)
    np.testing.assert_array_equal(labels[other], labels)
    assert sorted(other) == [*range(len(labels))]
    alone = np.bincount(labels)[labels] == 1
    np.testing.assert_array_equal(other == np.arange(len(labels)), alone)
