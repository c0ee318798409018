"""Runs of text to image: words kept, prompts found, samples and bits given the text."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from diffusion_jax import registry
from diffusion_jax.cli.modes import _edit_inputs, sample
from diffusion_jax.data.datasets import _grammar as grammar
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import assembly, texts
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.experiment.sampling import compiled_sampler, low_images, sampling_method
from diffusion_jax.networks.text_encoders.base import (
    plain,
)
from diffusion_jax.runtime import image_grids
from diffusion_jax.training import step
from diffusion_jax.training.tasks.diffusion import make_recipe


def run(tmp_path, **changes):
    settings = {"data": "scenes(objects=1, size=200)", "conditional": False, "text": "words()",
                "network": "unet(width=8, mults=(1,), blocks=1)", **changes}  # fmt: skip
    found = tiny.experiment(tmp_path, **settings)
    assembly.settle(found)
    return found


def test_a_run_keeps_the_words_of_its_training_captions(tmp_path):
    found = run(tmp_path)
    again = registry.build("text_encoders", found.config.text)
    assert again == found.text and "magenta" in again.known
    rows = found.source.split("test").take(np.asarray([3, 1]))
    assert rows["text"].shape == (2, 1, 32)
    _, cond = found.model.examples({k: jnp.asarray(v) for k, v in rows.items()})
    assert (
        found.text.text([i for i in cond["text"][0].tolist() if i > 2])
        == (found.source.split("test").captions.strings()[3])
    )
    assert found.model.traits.null_class
    assert not run(tmp_path, text_dropout=0.0).model.traits.null_class
    null = found.model.null(cond)
    assert not null["text"].any()


def test_training_hides_texts_as_often_as_the_settings_say(tmp_path):
    found, n = run(tmp_path, text_dropout=0.4), 4000
    # A pixel of each image will do.
    rows = {k: v[:, :1, :1] if k == "image" else v
            for k, v in found.source.split("train").take(np.arange(n) % 50).items()}  # fmt: skip
    text = step.prepare(make_recipe(found), jax.tree.map(jnp.asarray, rows), jnp.asarray(0))[1][
        "text"
    ]
    hidden = ~np.asarray(text).reshape(n, -1).any(1)
    assert hidden.mean() == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"data": "digits()"}, r"digits has no captions: use scenes\(\)"),
     ({"augment": "chain(hidden(flip()))"}, "makes mirror images"),
     ({"augment": "chain(hidden(rotate()))"}, "makes turned images, for which the captions"),
     ({"augment": "hidden(chain(permute()))"}, "makes images of other colours"),
     ({"augment": "dihedral()"}, "makes mirror images and turned images"),
     ({"data": "rotated(scenes(size=40))"}, r"has no captions: use scenes\(\)"),
     ({"network": "vdm_unet()"}, "cannot read text: .* as those of dit, .*unet, .* do")],
)  # fmt: skip
def test_what_does_not_go_with_captions_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        _ = run(tmp_path, **changes).model


def test_prompts_come_from_settings_a_file_or_the_data(tmp_path):
    found = run(tmp_path)
    assert texts.wanted(found, 3) == found.source.split("test").captions.strings()[:3]
    file = tmp_path / "prompts.txt"
    file.write_text("a blue seven\n\n a (red:2) two \n")
    found.config.sample.captions = ("a cyan five",)
    found.config.sample.prompts = str(file)
    file.write_text("\ufeff" + file.read_text())  # as some editors mark UTF-8
    wanted = texts.wanted(found, 4)
    assert wanted == ["a cyan five", "a blue seven", "a (red:2) two", "a cyan five"]
    assert texts.conditions(found, wanted)["text_weight"].max() == 2.0
    assert "text_weight" not in texts.conditions(found, wanted[:2])
    file.write_text("\n")
    with pytest.raises(ConfigError, match="has no line of text"):
        texts.wanted(found, 1)
    found.config.sample.labels = (3,)
    found.config.sample.prompts = ""
    found.config.sample.captions = ("a", 3)
    with pytest.raises(ConfigError, match=r"captions: 3 is not a text"):
        texts.wanted(found, 1)
    found.config.sample.captions = ("a cyan five", " ")
    with pytest.raises(
        ConfigError, match=r"empty prompts do not occur .* --config.guidance='cfg\(w=0"
    ):
        texts.wanted(found, 1)
    found.config.sample.captions = ()
    with pytest.raises(ConfigError, match=r"takes sample.captions, not labels"):
        texts.wanted(found, 1)


def test_a_caption_that_is_too_long_is_held_against_those_of_all_splits(tmp_path):
    found = run(tmp_path)
    longest = max(
        len(t) for s in ("train", "valid", "test") for t in found.data.split(s).captions.table
    )
    found.config.text = "bytes(length=12, width=8, depth=1, heads=2)"
    vars(found).pop("text", None), vars(found).pop("source", None)
    with pytest.raises(ConfigError, match=rf"captions of scenes.*bytes\(length={longest + 2}\)"):
        found.source.split("test")
    other = tiny.experiment(tmp_path)
    other.config.sample.captions = ("a",)
    with pytest.raises(ConfigError, match="trained without text"):
        texts.wanted(other, 1)


def test_classes_are_those_of_the_images_whose_captions_are_read(tmp_path):
    found = run(tmp_path, data="class_captions(digits())", conditional=True)
    for split in ("", "valid"):
        labels, captions = compiled_sampler.asked(found, 9, split)
        said = found.source.split(split or "test").captions.table
        assert [said[k] for k in labels] == list(captions)
    found.config.sample.captions = ("two",)
    assert compiled_sampler.asked(found, 3)[0].tolist() == [0, 1, 2]


def test_captions_are_of_the_split_whose_small_images_are_enlarged(tmp_path):
    found = run(tmp_path, view="high(subsample())")
    assert low_images.split_of(found) == "" and low_images.split_of(found, "split:test") == "test"
    found.config.sample.low = "split:valid"
    assert low_images.split_of(found, "split:test") == "valid"
    assert low_images.split_of(run(tmp_path), "split:test") == ""


def test_edits_take_the_captions_of_other_data(tmp_path):
    found = run(tmp_path)
    found.config.sample.captions_of = "scenes(objects=1, size=90)"
    given = _edit_inputs._texts(found, 3)["text"]
    other = registry.build("data", found.config.sample.captions_of)
    wanted = other.split("test").captions.strings()[:3]
    np.testing.assert_array_equal(given, texts.conditions(found, wanted)["text"])


def test_a_denoiser_is_told_captions(tmp_path):
    found = run(tmp_path)
    params = jax.jit(lambda: found.model.init(jax.random.key(0), found.source.shape))()
    params = jax.tree.map(lambda a: a + 0.05, params)
    z = jnp.ones((2, *found.source.shape))
    texts_of = ["a blue seven", "a red three"]
    bare, told = (sampling_method.denoiser(found, params, None, c)(z, jnp.zeros(2)).x
                  for c in (None, texts_of))  # fmt: skip
    assert jnp.abs(told - bare).max() > 1e-3 and jnp.abs(told[0] - told[1]).max() > 1e-3
    other = tiny.experiment(tmp_path)
    with pytest.raises(ConfigError, match="reads no text; leave captions out"):
        sampling_method.denoiser(other, params, np.zeros(2, int), texts_of)


def test_an_edit_without_captions_is_told_so(tmp_path):
    found = run(tmp_path)
    told = _edit_inputs._texts(found, 3)["text"]
    assert told.shape == (3, found.text.length) and not told.any()
    with pytest.raises(ConfigError, match=r"an image without a text.*--config.sample.captions"):
        _edit_inputs._texts(run(tmp_path, text_dropout=0.0), 3)


def test_texts_are_written_under_their_pictures():
    black = np.zeros((4, 8, 8, 3), np.uint8)
    bare = image_grids.grid(black, 17, 2, pixels=64)
    long = ["a magenta three, bottom right", "a", "b", "c"]
    told = image_grids.grid(black, 17, 2, pixels=64, under=long)
    lines = (told.shape[0] - bare.shape[0]) // 2 // 18
    assert lines >= 3 and told.shape[1] == bare.shape[1]
    np.testing.assert_array_equal(told[:64, :64], bare[:64, :64])
    assert told[64 : 64 + 18 * lines, :64].max() > 200


@pytest.mark.slow
def test_samples_are_drawn_and_bits_measured_given_the_text(tmp_path):
    found = run(tmp_path, network="dit(width=48, depth=1, heads=2, patch=4)")
    found.config.sample.captions = ("a (red:2) three, top left", "a blue seven")
    found.config.sample.num, found.config.sample.steps = 2, 2
    found.config.guidance = "cfg(w=2.0, negative='green')"
    params = jax.jit(lambda: found.model.init(jax.random.key(0), found.source.shape))()
    params = jax.tree.map(lambda a: a + 0.05, params)
    picture = sample.sample(found, params, 7)
    assert picture.shape[0] > 96 + 18 and len(list((found.workdir / "samples").glob("7.png"))) == 1
    with np.load(found.workdir / "samples" / "7.npz") as f:
        assert f["caption"].tolist() == list(found.config.sample.captions)
    split = found.source.split("test")
    nulled = dataclasses.replace(split.captions, ids=0 * split.captions.ids)
    told, none = (bits_per_dim.bound(found, params, split=s, limit=2, quiet=True)
                  for s in (split, dataclasses.replace(split, captions=nulled)))  # fmt: skip
    np.testing.assert_array_equal(told.t, none.t)  # the same noise, so that they can be compared
    np.testing.assert_array_equal(told.prior, none.prior)
    np.testing.assert_array_equal(told.reconstruction, none.reconstruction)
    assert (told.diffusion != none.diffusion).all()


def test_prompts_of_the_documentation_are_captions_that_training_had():
    """Of scenes: a run of `words()` refuses others, and one of `bytes()` was never told them."""
    found = []
    for page in ("howto/text.md", "words_and_bits.md", "howto/unclip.md"):
        text = (Path(__file__).parents[1] / "docs" / page).read_text()
        found += re.findall(r"""negative=["']([^"']+)["']""", text)
        found += [t for part in re.findall(r"compose\(parts=\((.*?)\), base", text)
                  for t in re.findall(r"'([^']+)'", part)]  # fmt: skip
        found += [t for part in re.findall(r"sample\.captions=\"\((.*?)\)\"", text)
                  for t in re.findall(r"'([^']+)'", part)]  # fmt: skip
    assert len(found) > 6
    for text in found:
        grammar.parse(plain(text))
