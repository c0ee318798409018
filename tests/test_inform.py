"""What `--mode=inform` makes of captions: parts of them, wrong ones, and its report."""

import dataclasses
import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from diffusion_jax import registry
from diffusion_jax.cli.modes import _known, inform
from diffusion_jax.cli.report import collect, sections_text
from diffusion_jax.cli.report.elements import Section
from diffusion_jax.data import hard_negatives
from diffusion_jax.data.captions import Captions
from diffusion_jax.data.datasets import _grammar as grammar
from diffusion_jax.errors import CheckpointError, ConfigError, DataError, UserError
from diffusion_jax.experiment import assembly, other_runs
from diffusion_jax.experiment.measures import (
    bits_per_word,
    caption_information,
    data_processing,
    information_checks,
    null_of_another,
)
from diffusion_jax.likelihood import information


def captions(spec="scenes(objects=1, pairs='all')", limit=40):
    return registry.build("data", spec).split("test").captions.part(slice(limit))


def test_captions_that_say_a_part_have_known_bits():
    c = captions()
    assert c.saying((0, 2))[0] == grammar.say([c.attributes[0, 0], -1, c.attributes[0, 2]])
    bits = [c.entropy(s) for s in ((), (0,), (1,), (2,), (0, 2), (0, 1, 2))]
    np.testing.assert_allclose(bits, np.log2([1, 6, 10, 4, 24, 240]), atol=1e-9)
    two = captions("scenes()")
    assert two.entropy(()) == pytest.approx(1.0)  # how many there are
    number = (two.attributes[:, 1::3] >= 0).sum(1)
    said = [len(grammar.parse(t)) // 3 for t in two.saying((0,))]
    np.testing.assert_array_equal(said, number)


def test_words_telescope_and_orders_average_to_the_same_total():
    c = captions()
    found = bits_per_word.parts(c, orders=True)
    assert found.chain == ((), (0,), (0, 1), (0, 1, 2)) and len(found.more) == 4
    rng = np.random.default_rng(0)
    sets = {s: rng.normal(size=(40, 4)) for s in (*found.chain, *found.more)}
    chain = np.stack([np.zeros((40, 4)), *(sets[s] for s in found.chain)], -1)
    order, mean = (
        bits_per_word.in_order(found, chain),
        bits_per_word.averaged(found, sets.__getitem__),
    )
    whole = (chain[..., 0] - chain[..., -1]).mean() / math.log(2)
    assert sum(w["bits"] for w in order) == pytest.approx(whole)
    total = (sets[()] - sets[(0, 1, 2)]).mean() / math.log(2)
    assert sum(w["bits"] for w in mean) == pytest.approx(total)
    np.testing.assert_allclose([w["known"] for w in mean], np.log2([6, 10, 4]), atol=1e-9)
    np.testing.assert_allclose([w["known"] for w in order], [0, *np.log2([6, 10, 4])], atol=1e-9)
    with pytest.raises(ConfigError, match="at most 4 are supported: leave it out"):
        bits_per_word.parts(captions("scenes()"), orders=True)


def test_wrong_captions_are_wrong_in_one_respect_and_possible():
    c = captions("scenes(objects=2)", 60)
    possible = {v for v, _ in c.law}
    found = hard_negatives.wrong(c, 2, 5)
    exchanged = {f"{a}1 and {a}2 exchanged" for a in ("colour", "digit")}
    assert {*found} == {*c.names} | exchanged  # places have an order: those cannot be exchanged
    for kind, lists in found.items():
        for column in lists:
            for text, own in zip(column, c.attributes.tolist(), strict=True):
                changed = [i for i, (a, b) in enumerate(zip(grammar.parse(text), own, strict=True))
                           if a != b] if text else []  # fmt: skip
                assert len(changed) == (0 if not text else 2 if "exchanged" in kind else 1)
                assert not text or tuple(grammar.parse(text)) in possible
    again = hard_negatives.wrong(c.part(slice(7)), 2, 5)
    assert again and all(v[1] == found[k][1][:7] for k, v in again.items())


def test_scenes_that_can_be_are_those_of_the_law():
    for spec in ("scenes(objects=(1, 2))", "scenes(objects=2, pairs='unseen')"):
        c = captions(spec)
        law, rng = {v for v, _ in c.law}, np.random.default_rng(0)
        tried = {tuple(rng.integers(-1, (6, 10, 4, 6, 10, 4)).tolist()) for _ in range(3000)}
        tried |= {*list(law)[:500]}
        assert {v for v in tried if c.can_be(v)} == tried & law
        assert 400 < len(tried & law) < len(tried)
    many = captions("scenes(objects=3, size=10)")  # too many for a law
    assert all(map(many.can_be, map(tuple, many.attributes.tolist())))
    assert hard_negatives.wrong(many, 1, 0)


def test_scenes_know_where_their_objects_are():
    split = registry.build("data", "scenes(objects=(1, 3), size=10)").split("test")
    c = split.captions.part(slice(60))
    where = np.stack([c.where(v) for v in c.attributes.tolist()])
    lit = np.asarray(split.images[:60]).any(-1)
    assert not (lit & ~where).any()
    number = (c.attributes[:, 1::3] >= 0).sum(1)
    np.testing.assert_array_equal(where.mean((1, 2)), number / 4)
    found = information.inside(lit * 2.0, where)
    assert found["share"] == 1.0 and found["standard_error"] == 0.0
    assert found["area"] == pytest.approx(number.mean() / 4)
    even = information.inside(np.ones(where.shape), where)  # the share of the area, and its error
    assert even["share"] == pytest.approx(even["area"])
    error = (number / 4).std(ddof=1) / math.sqrt(60)
    assert even["standard_error"] == pytest.approx(error)


def test_candidates_hold_the_own_caption_once_and_all_there_are_have_their_law():
    c = captions()
    with pytest.raises(DataError, match="have the caption 'a'"):
        hard_negatives.candidates(Captions(("a",), np.zeros((3, 1), int)), 0, 1)
    few = hard_negatives.candidates(c, 5, 1)
    columns = np.asarray(few.texts)
    assert columns.shape == (5, 40) and (columns[0] == c.strings()).all()
    assert all(len({*column}) == 5 for column in columns.T)
    assert few.texts[3][:9] == hard_negatives.candidates(c.part(slice(9)), 5, 1).texts[3]
    names = captions("class_captions(digits())")
    every = hard_negatives.candidates(names, 0, 1)
    assert len(every.texts) == 10 and every.probability.sum() == pytest.approx(1.0)
    assert [every.texts[t][i] for i, t in enumerate(every.true)] == names.strings()
    assert (every.true != every.other).all()


def run(tmp_path, **changes):
    settings = {"data": "scenes(objects=1, size=60)", "conditional": False, "text": "words()",
                "network": "dit(width=48, depth=1, heads=2, patch=4)", **changes}  # fmt: skip
    found = tiny.experiment(tmp_path, **settings)
    assembly.settle(found)
    found.config.eval.limit, found.config.inform.pictures = 8, 2
    return found


def weights(found):
    params = jax.jit(lambda: found.model.init(jax.random.key(0), found.source.shape))()
    return jax.tree.map(lambda a: a + 0.02, params)


RECORD = {"step": 7, "weights": "ema", "checkpoint": "none"}


def test_one_candidate_is_refused(tmp_path):
    found = run(tmp_path)
    found.config.inform.candidates = 1
    with pytest.raises(ConfigError, match=r"candidates=1 .* own caption only; allowed: 0"):
        inform.check(found)


def test_bits_given_a_text_are_not_held_against_the_entropy_without(tmp_path):
    toys = {
        "data": "class_captions(toys())",
        "network": "video_unet(width=8, mults=(1,), blocks=1)",
    }
    bare = run(tmp_path, text="", **toys)
    assert _known.record(bare, np.full(4, 99.0))["excess_bits"] > 0
    assert _known.record(run(tmp_path, **toys), np.full(4, 99.0)) is None


def test_errors_of_wrong_captions_count_images_and_not_their_captions():
    """Captions of one image that say the same are no more than one of them, whatever the others."""
    rng = np.random.default_rng(0)
    own, further = rng.normal(size=(20, 4)), rng.normal(0.3, size=(20, 4, 1))
    once = caption_information._against(own, own[..., None] + further, [["x"] * 20])
    wrong = [["x"] * 20] * 5
    many = caption_information._against(own, own[..., None] + np.repeat(further, 5, 2), wrong)
    assert many == pytest.approx(once) and once["images"] == 20
    ragged = [["x"] * 20, ["x"] * 12 + [""] * 8]
    some = caption_information._against(own, own[..., None] + np.repeat(further, 2, 2), ragged)
    assert some == pytest.approx(once)
    none = caption_information._against(own[:2], own[:2, :, None], [["", ""]])
    assert none == {"images": 0}


@pytest.mark.slow
def test_the_report_of_scenes_adds_up(tmp_path):
    found = run(tmp_path)
    found.config.inform.orders, found.config.inform.candidates = True, 3
    report = inform.inform(found, weights(found), RECORD)
    r = report["result"]
    names = [w["word"] for w in r["words"]]
    assert names == ["how many", "colour", "digit", "place"]
    assert sum(w["bits"] for w in r["words"]) == pytest.approx(r["information"]["bits"], abs=1e-5)
    lower = sum(w["bits"] for w in r["words_averaged"]) + r["words"][0]["bits"]
    assert lower == pytest.approx(r["information"]["bits"], abs=1e-5)
    assert r["entropy"] == pytest.approx(math.log2(200)) and r["retrieval"]["among"] == 3
    assert {*r["negatives"]} == {"colour", "digit", "place"}
    assert [c["check"] for c in report["checks"]] == ["I <= H", "shuffled > null > true",
                                                      "another wording"]  # fmt: skip
    with np.load(found.workdir / "inform" / "7.npz") as f:
        assert f["maps"].shape == (8, 5, 16, 16) and (f["maps"] >= 0).all()
        assert f["maps"][:, 0].sum((1, 2)).mean() == pytest.approx(r["i_orth"]["bits"], rel=1e-4)
        assert f["bits"].mean() == pytest.approx(r["information"]["bits"], rel=1e-5)
    assert (found.workdir / "inform" / "7.png").exists()
    assert json.loads((found.workdir / "inform" / "7.json").read_text())["result"]["words"]
    assert isinstance(sections_text.information(collect.read(found.workdir)), Section)


@pytest.mark.slow
def test_classes_are_captions_of_a_model_of_classes(tmp_path):
    found = run(tmp_path, data="digits()", conditional=True, text="",
                network="mlp(width=16, depth=1, embed=8)")  # fmt: skip
    plain = run(tmp_path, data="digits()", text="", network="mlp(width=16, depth=1, embed=8)")
    found.config.inform.candidates = 0
    report = inform.inform(found, weights(found), RECORD)
    r = report["result"]
    assert [w["word"] for w in r["words"]] == ["class"] and r["retrieval"]["among"] == 10
    assert r["words"][0]["bits"] == pytest.approx(r["information"]["bits"])
    assert r["mixture"]["bits"] <= r["entropy"] < math.log2(10)
    with pytest.raises(ConfigError, match="was trained without; train"):
        inform.check(plain)


def test_the_checks_say_what_fails_and_what_cannot_be_said():
    i = {"bits": 9.0, "standard_error": 0.1}
    r = {
        "information": i,
        "entropy": 7.6,
        "shuffled_above_null": {"bits": -0.5, "standard_error": 0.1},
    }
    first, second = information_checks.checks(r)
    assert first["passed"] is False and "too loose by at least 1.400" in first["said"]
    assert second["passed"] is False
    unknown = information_checks.checks(r | {"entropy": None})[0]
    assert unknown["passed"] is None and "captions is unknown" in unknown["said"]
    for bits, passed in ((0.19, None), (-0.19, None), (0.21, True)):
        r["shuffled_above_null"]["bits"] = bits
        assert information_checks.checks(r)[1]["passed"] is passed
    r["mixture"] = {"bits": 2.0, "standard_error": 0.1, "half": 1.9}
    for h, passed, of in (
        (7.6, True, "of all captions"),
        (None, None, "of these images (no check"),
    ):
        said = information_checks.checks({**r, "entropy": h})[2]
        assert said["passed"] is passed and of in said["said"]


def test_a_run_that_is_told_of_images_by_other_vectors_is_no_bound_without_text(monkeypatch):
    vectors = "clip(checkpoint='{}', sha256='{}', mean=(0.0,), std=({},))"
    told = ["", "runs/clip", *(vectors.format(*v) for v in
            [("runs/a", "ab", 1.0), ("/x/runs/a", "ab", 1.0), ("runs/a", "cd", 1.0),
             ("runs/a", "ab", 2.0)])]  # fmt: skip

    def opened(mine, theirs):
        runs = [SimpleNamespace(
            config=SimpleNamespace(inform=SimpleNamespace(against="runs/b"), data_dir="", eval=0,
                                   embedding=e, view="whole()"),
            model=SimpleNamespace(text=False, num_classes=0),
            task=SimpleNamespace(holds="denoiser"),
            source=SimpleNamespace(shape=(4, 4, 1), levels=2),
        ) for e in (mine, theirs)]  # fmt: skip
        monkeypatch.setattr(null_of_another.other_runs, "opened", lambda *_, **__: runs[1])
        return null_of_another.opened(runs[0])

    for same in (("", ""), (told[1], told[1]), (told[2], told[3])):
        assert opened(*same)
    for mine, theirs in (("", told[2]), (told[2], ""), (told[2], told[4]), (told[2], told[5])):
        with pytest.raises(
            ConfigError, match=r"^inform.against=runs/b has .*: give two runs with embeddings"
        ):
            opened(mine, theirs)


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"data": "digits()"}, r"inform.data='digits\(\)': images are \(8, 8, 1\) with 17"),
     ({"of": "runs/x"}, "inform.of=runs/x: this run models the images themselves"),
     ({"against": "nowhere"}, "inform.against='nowhere': there is no folder")],
)  # fmt: skip
def test_questions_that_cannot_be_asked(tmp_path, asked, message):
    found = run(tmp_path)
    found.config.inform.update(asked)
    with pytest.raises(UserError, match=message) as e:
        inform.check(found)
    assert "\n" not in str(e.value)


def test_another_run_must_be_without_text(tmp_path, monkeypatch):
    found, other = run(tmp_path), run(tmp_path)
    found.config.inform.against = "runs/text"
    monkeypatch.setattr(other_runs, "opened", lambda *args, **more: other)
    with pytest.raises(ConfigError, match="runs/text: that run has texts or classes; give one"):
        inform.check(found)


@pytest.mark.parametrize("setting", ["against", "of"])
def test_another_run_s_weights_are_asked_for_before_anything_is_measured(
    tmp_path, monkeypatch, setting
):
    found, other = run(tmp_path), run(tmp_path)  # neither has a checkpoint
    found.config.inform[setting] = "runs/just_begun"
    opened = {"against": (null_of_another, other), "of": (data_processing, (other, None))}
    module, value = opened[setting]
    monkeypatch.setattr(module, "opened", lambda *_: value)
    with pytest.raises(CheckpointError, match="train first"):
        inform.check(found)


def test_words_need_captions_by_parts(tmp_path):
    bare = dataclasses.replace(captions(), attributes=None)
    with pytest.raises(ConfigError, match="no known parts, unlike those of scenes"):
        bits_per_word.parts(bare, orders=True)
    found = run(tmp_path)
    notes = []
    assert caption_information._parts(found, bare, notes) is None and "no known parts" in notes[0]
    found.config.text = found.config.text.replace("'digit', ", "")  # as if nothing was left out
    vars(found).pop("text", None)
    assert caption_information._parts(found, captions(), notes) is None
    assert "leave words out" in notes[1] and "unknown word 'digit'" in notes[1]


@pytest.mark.parametrize("said", [1.0, 0.7])
def test_words_need_training_that_left_them_out(tmp_path, said):
    found, notes = run(tmp_path, data=f"scenes(objects=1, size=300, said={said})"), []
    parts = caption_information._parts(found, captions(), notes)
    assert (parts is None) == (said == 1.0) == bool(notes)
    assert not notes or "training had no captions that leave words out (place is" in notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"schedule": "mulan()"}, "draws a latent for each image .MuLAN.*other than mulan"),
     ({"text_dropout": 0.0}, "no null class .*text_dropout .* above 0"),
     ({"encoder": "diffenc()"}, "changes the data with time; use a model with encoder=")],
)  # fmt: skip
def test_backbones_that_cannot_be_asked(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as e:
        inform.check(run(tmp_path, **changes))
    assert "\n" not in str(e.value)
