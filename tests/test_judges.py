"""Judges, what training never had, and the best of several samples."""

from contextlib import nullcontext
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from test_inform import run

from diffusion_jax import registry
from diffusion_jax.cli.modes import quality
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.judges.base import shares
from diffusion_jax.experiment import texts
from diffusion_jax.experiment.measures import judges
from diffusion_jax.experiment.sampling import best_of, run_sampler


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
    assert right(doubled, said)["count"] == 0.0
    assert np.isnan(right(image, "a digit")["digit"]) and right(0 * image, said)["place"] == 0.0
    with pytest.raises(ConfigError, match="no caption of these scenes; it reads such as"):
        right(image, "a red cat")
    with pytest.raises(ConfigError, match=r"judge scenes\(\): images are \(8, 8, 3\)"):
        judge.right(image[:, :8, :8], [said])


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
    [("a (red:2) three", "scenes()", None), ("a red cat", "scenes()", "no caption of these scenes"),
     ("three", "names()", r"names: images are \(16, 16, 3\), those of digits \(8, 8, 1\)")],
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
    monkeypatch.setattr(registry, "build", lambda kind, spec: judge)
    found.config.sample.judge = "mine()"
    best_of._score(found, {}, SimpleNamespace(captions=texts, labels=None))(np.zeros((2, 1)))
    assert heard == [["a red three", "a red (three)"]]


def test_captions_of_another_data_set(tmp_path):
    found = run(tmp_path)
    found.config.sample.captions_of = "scenes(objects=1, pairs='unseen', size=10)"
    wanted = texts.wanted(found, 5)
    assert not judges.seen(found, wanted).any()


class Fake:
    """A sampler whose k-th try of image i is the level k + i."""

    def __init__(self, k):
        self.k, self.experiment = k, None

    def __call__(self, seed, quiet=False):
        return np.stack([np.full((2, 2, 1), self.k + i, np.uint8) for i in range(3)])

    def levels(self, drawn):
        return drawn


def test_the_best_is_chosen_for_each_image():
    wanted = np.asarray([2, 1, 9])

    def score(images):
        return -np.abs(images[:, 0, 0, 0].astype(float) - wanted)

    drawn = best_of.Best(tuple(Fake(k) for k in range(4)), score)(seed=0)
    np.testing.assert_array_equal(drawn[:, 0, 0, 0], [2, 1, 5])


@pytest.mark.slow
def test_the_best_of_several_samples_has_the_larger_lift(tmp_path):
    found = tiny.experiment(tmp_path)  # of three classes
    params = jax.jit(lambda: found.model.init(jax.random.key(0), found.source.shape))()
    params = jax.tree.map(lambda a: a + 0.05, params)
    one = run_sampler.compiled(found, params)
    found.config.sample.best_of = 3
    several = run_sampler.compiled(found, params)
    first = one(0, quiet=True)
    np.testing.assert_array_equal(
        several.tries[0](0, quiet=True), first
    )  # the first try is as ever
    best = several(0, quiet=True)
    assert (several.score(best) >= several.score(first)).all()
    assert several.describe()["network_calls"] == 3 * one.describe()["network_calls"]
    assert several.describe()["judge"] == "bits"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"best_of": 2, "judge": "scenes()"}, "would flatter; give another"),
     ({"best_of": 2, "judge": "runs/classifier"}, "a classifier judges classes, this run draws")],
)  # fmt: skip
def test_judges_that_cannot_be_asked(tmp_path, changes, message):
    found = run(tmp_path)
    found.config.quality.judge = "scenes()"
    found.config.sample.update(changes)
    with pytest.raises(ConfigError, match=message) as e:
        best_of.check(found)
    assert "\n" not in str(e.value)
    plain = run(tmp_path, text="", data="digits()", network="mlp(width=8, depth=1, embed=8)")
    plain.config.sample.best_of = 2
    with pytest.raises(ConfigError, match="this run has none"):
        best_of.check(plain)
