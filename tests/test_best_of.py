"""The best of several samples, by the model itself or by a judge."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from test_inform import run

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment.sampling import best_of, run_sampler
from diffusion_jax.likelihood import information


class Fake:
    """A sampler whose k-th try of image i is the level k + i."""

    def __init__(self, k):
        self.k = k
        self.experiment = SimpleNamespace(
            config=SimpleNamespace(eval=SimpleNamespace(matmul_precision=""))
        )

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
def test_the_best_of_several_samples_has_the_largest_lift(tmp_path):
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
    drawn = np.stack([a(0, quiet=True) for a in several.tries])
    kept = np.argmax([several.score(a) for a in drawn], axis=0)
    assert set(kept) != {0}  # else the first try alone would do
    np.testing.assert_array_equal(several(0, quiet=True), drawn[kept, np.arange(len(kept))])
    assert several.describe()["network_calls"] == 3 * one.describe()["network_calls"]
    assert several.describe()["judge"] == "bits"


def test_the_lift_of_an_image_is_what_its_class_saves(tmp_path, monkeypatch):
    """Without a class an image costs 5 nats, with class k it costs k: the lift is 5 - k."""
    found = tiny.experiment(tmp_path)
    found.config.sample.num = 3

    def measure(model, params, split, how, conditions, draws):
        cost = np.where(conditions["label"] == 3, 5.0, conditions["label"])
        return SimpleNamespace(nats=np.repeat(cost[:, None], draws, 1))

    monkeypatch.setattr(information, "measure", measure)
    drawing = SimpleNamespace(labels=np.array([2, 0, 1]), captions=())
    score = best_of.lift(found, {}, drawing)
    np.testing.assert_allclose(score(np.zeros((3, 4, 4, 1), np.uint8)), [3.0, 5.0, 4.0])


def test_the_score_of_a_classifier_is_the_log_probability_of_the_class(tmp_path, monkeypatch):
    found = tiny.experiment(tmp_path)
    found.config.sample.judge = "runs/classifier"
    rows = np.log([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]) + 4.0
    monkeypatch.setattr(best_of.features, "open_classifier", lambda *_: None)
    monkeypatch.setattr(best_of.features, "logits", lambda *_: lambda images: rows)
    score = best_of._score(found, {}, SimpleNamespace(labels=np.array([1, 2])))
    np.testing.assert_allclose(score(None), np.log([0.2, 0.8]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"best_of": 2, "judge": "scenes()"}, "would be biased; give another"),
     ({"best_of": 2, "judge": "runs/classifier"}, "a classifier judges classes, but this run")],
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
    with pytest.raises(ConfigError, match="this run has neither"):
        best_of.check(plain)
