"""Samples of a decoder have the classes of the images whose embeddings they are given."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from linear_clip import clip

from diffusion_jax.cli.modes import ood, report
from diffusion_jax.data.media.vector import VECTOR
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import embeddings
from diffusion_jax.experiment.measures import caption_information, data_processing
from diffusion_jax.experiment.sampling import priors, run_sampler
from diffusion_jax.experiment.sampling.priors import EmbeddingSource

TEXT = "bytes(length=10, width=8, depth=1, heads=2)"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.captioned(tmp_path_factory.mktemp("captioned"))


def decoder(folder, data, asked, **changes):
    """A run that is told what the linear CLIP sees."""
    settings = {"network": "dit(width=8, depth=1, heads=1, patch=1)", "embedding": "runs/clip"}
    run = tiny.experiment(folder, data=data, guidance="none()", **(settings | changes))
    vars(run)["clip"] = lambda name: clip((4, 4, 1), 5)
    run.config.sample.update({"num": 8, **asked})
    return run


def drawing(run, otherwise=""):
    params = jax.jit(lambda: run.model.init(jax.random.key(0), run.source.shape))()
    return run_sampler.compiled(run, params, otherwise)


@pytest.mark.parametrize("text", ["", TEXT])
@pytest.mark.parametrize(
    ("asked", "split"),
    [({"prior": "split:valid"}, "valid"), ({"prior": "captions"}, "test"), ({}, "train")],
)
def test_classes_are_those_of_the_images(tmp_path, data, asked, split, text):
    run = decoder(tmp_path, data, asked, text=text)
    made, of = drawing(run, "" if asked else "split:train"), run.source.split(split)
    assert made.labels.tolist() == of.take(np.arange(8))["label"].tolist()
    if split != "test":
        np.testing.assert_array_equal(
            made.embeddings(0, True, 0), of.take(np.arange(8))["embedding"]
        )
    if made.captions:
        assert [*made.captions] == of.captions.strings()[:8]


@pytest.mark.parametrize("asked", [{"labels": (2, 1)}, {"captions": ("a red",)}])
def test_classes_that_are_asked_for(tmp_path, data, asked):
    run = decoder(tmp_path, data, {"prior": "captions", **asked})
    wanted = np.resize(asked.get("labels", (0, 1, 2)), 8).tolist()
    assert drawing(run).labels.tolist() == wanted


def test_a_prior_is_told_the_same_classes(tmp_path, data, monkeypatch):
    told = []

    def drawn(run, embedder, split, labels):
        told.append((split, labels))
        return EmbeddingSource((), "test", lambda: (lambda *_: np.zeros((8, 6), np.float32), {}))

    monkeypatch.setattr(priors, "_drawn", drawn)
    run = decoder(tmp_path, data, {"prior": "runs/prior", "low": "split:valid"}, view="high()")
    made = drawing(run)
    valid = run.source.split("valid").take(np.arange(8))["label"].tolist()
    assert told[-1][0] == "valid" and told[-1][1].tolist() == made.labels.tolist() == valid


@pytest.mark.parametrize("view", ["high()", "whole()"])
def test_networks_that_are_told_are_asked_about_small_images_too(tmp_path, data, view):
    embeddings.check_network(decoder(tmp_path, data, {}, view=view))


def test_an_animation_is_of_the_first_samples(tmp_path, data, monkeypatch):
    """With their vectors, from whatever a training samples with."""
    shown = {}

    def record(model, params, method, cond, *_):
        shown.update(cond)
        raise ConfigError("enough")

    monkeypatch.setattr(report.trajectory, "record", record)
    run = decoder(tmp_path, data, {"num": 2})
    params = jax.jit(lambda: run.model.init(jax.random.key(0), run.source.shape))()
    with pytest.raises(ConfigError, match="enough"):
        report._animate(run, params, {}, tmp_path / "trajectory.json")
    rows = run.source.split("test").take(np.arange(len(shown["label"])))
    np.testing.assert_array_equal(shown["embedding"], rows["embedding"])
    assert shown["label"].tolist() == rows["label"].tolist()


def test_images_that_are_informed_of_keep_their_vectors(tmp_path, data):
    run = decoder(tmp_path, data, {})
    named = dataclasses.replace(run.data, classes=("red", "blue", "green"))
    vars(run)["data"] = named
    split, _ = caption_information.images(run)
    assert split.take(np.arange(3))["embedding"].shape == (3, 6)


def test_vectors_are_told_from_vectors(tmp_path, data):
    spec = f"embeddings(checkpoint='runs/clip', of={data})"
    prior = decoder(tmp_path, spec, {}, embedding="", conditional=False)
    assert ood._split(prior, spec).shape == prior.source.shape == (1, 1, 5)


def test_the_text_tells_of_whole_images_what_vectors_are_compared_with(tmp_path, data):
    settings = {"data": data, "text": TEXT, "view": "low()"}
    where = tiny.settings_only(tmp_path, "low", **settings)
    run = SimpleNamespace(config=tiny.config(tmp_path), source=SimpleNamespace(medium=VECTOR))
    run.config.inform.of = where
    with pytest.raises(ConfigError, match=r"inform.of=.*models a part of each image"):
        data_processing.opened(run, None)


def test_a_later_stage_is_told_of_the_images_that_it_enlarges(tmp_path, data):
    """And of those also where nothing but a split is said for all of it."""
    run = decoder(tmp_path, data, {"low": "split:valid"}, view="high()", text=TEXT)
    made, valid = drawing(run, "split:test"), run.source.split("valid")
    np.testing.assert_array_equal(
        made.embeddings(0, True, 0), valid.take(np.arange(8))["embedding"]
    )
    assert made.labels.tolist() == valid.take(np.arange(8))["label"].tolist()
    assert [*made.captions] == valid.captions.strings()[:8]
