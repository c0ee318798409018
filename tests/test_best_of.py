"""The best of several samples, by the model itself or by a judge."""

import jax
import numpy as np
import pytest
import tiny
from test_inform import run

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment.sampling import best_of, run_sampler


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
